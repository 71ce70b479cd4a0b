"""Speech for the demo, made by `scripts/render_demo_speech.py`."""
