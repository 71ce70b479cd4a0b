import { render } from 'preact';
import { takeInvite } from '../client';
import { App } from './app';
import { initialState } from './app_state';
import { Controller, remembered } from './controller';
import { chooseLanguage, LANGUAGES } from './strings';
import './styles/base.css';
import './styles/parts.css';
import './styles/lobby.css';
import './styles/meeting.css';
import './styles/tiles.css';
import './styles/panels.css';
import './styles/details.css';

const { roomId } = takeInvite(location, history, sessionStorage);
const earlier = remembered();
const language = earlier.language ?? chooseLanguage(navigator.languages);
document.documentElement.lang = LANGUAGES[language].tag;

const controller = new Controller(initialState(language, earlier.name, roomId ?? '', earlier.shortcutsOn));
const root = document.getElementById('app');
if (root === null) throw new Error('index.html has no #app');
render(<App controller={controller} />, root);
void controller.start();
