// Every text that a person reads, in every language. `zh` has the type of `en`: a missing key does not compile.

import { en, type Strings } from './en';
import { zh } from './zh';

export type { Explanation } from './explanation';
export { en, zh, type Strings };

export type Language = 'en' | 'zh';

export const LANGUAGES: Record<Language, { name: string; strings: Strings; tag: string }> = {
  en: { name: 'English', strings: en, tag: 'en' },
  zh: { name: '简体中文', strings: zh, tag: 'zh-CN' },
};

/** The first of the person's languages that we speak; English if none. */
export function chooseLanguage(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    const primary = tag.toLowerCase().split('-')[0];
    if (primary === 'en' || primary === 'zh') return primary;
  }
  return 'en';
}
