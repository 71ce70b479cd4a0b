import { expect, test } from 'vitest';
import { chooseLanguage, en, zh } from '../src/ui/strings';

type Tree = { [key: string]: unknown };

/** Every path to a text; a function is called with numbers to see what it says. */
function texts(tree: Tree, path = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    const here = `${path}/${key}`;
    if (typeof value === 'string') found.set(here, value);
    else if (typeof value === 'function') found.set(here, String(value(7, 7)));
    else for (const [inner, text] of texts(value as Tree, here)) found.set(inner, text);
  }
  return found;
}

test('both languages have the same keys, records included', () => {
  expect([...texts(zh).keys()].sort()).toEqual([...texts(en).keys()].sort());
});

test('no Chinese text was left in English', () => {
  const same = [...texts(zh)].filter(([key, text]) => text !== '' && text === texts(en).get(key));
  const units = ['/prosodyLevel', '/prosodyPitch'];
  const keys = same.map(([key]) => key).filter((key) => !units.includes(key));
  expect(keys).toEqual([]);
});

test('every problem says what happened and what to do', () => {
  for (const [key, text] of [...texts(en), ...texts(zh)]) {
    if (key.endsWith('/title') || key.endsWith('/text')) expect(text.length, key).toBeGreaterThan(3);
  }
});

test('the language is the first preferred one that exists', () => {
  expect(chooseLanguage(['fr', 'zh-Hans-CN', 'en'])).toBe('zh');
  expect(chooseLanguage(['en-US', 'zh'])).toBe('en');
  expect(chooseLanguage(['fr'])).toBe('en');
});
