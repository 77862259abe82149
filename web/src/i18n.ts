import i18n, { type BackendModule } from 'i18next';
import { initReactI18next } from 'react-i18next';
import type { en } from './en';

// zh is typed by the keys of en: a sentence without its Chinese does not compile.
export type Key = keyof typeof en;

declare module 'i18next' {
  interface CustomTypeOptions {
    defaultNS: 'translation';
    resources: { translation: typeof en };
    keySeparator: false;
    nsSeparator: false;
  }
}

// A reader loads the language they read, and the other when they turn to it.
const catalogues: BackendModule = {
  type: 'backend',
  init: () => undefined,
  read: (language, _, done) => {
    const sentences: Promise<Record<Key, string>> = language === 'zh-CN' ? import('./zh').then((m) => m.zh) : import('./en').then((m) => m.en);
    sentences.then((all) => done(null, all), (fault: Error) => done(fault, null));
  },
};

const chosen = localStorage.getItem('language');
const language = chosen === 'en' || chosen === 'zh-CN' ? chosen : navigator.language.startsWith('zh') ? 'zh-CN' : 'en';

/** The sentences of the reader's language are there. */
export const spoken = i18n
  .use(catalogues)
  .use(initReactI18next)
  .init({
    lng: language,
    fallbackLng: false,
    load: 'currentOnly',
    keySeparator: false,
    nsSeparator: false,
    interpolation: { escapeValue: false }, // React escapes
    react: { useSuspense: false },
  });

const show = (lng: string) => {
  document.documentElement.lang = lng;
  localStorage.setItem('language', lng);
};
show(language);
i18n.on('languageChanged', show);

// A format is dear to make and cheap to use: each is made once a language.
const made = new Map<string, unknown>();
function kept<T>(what: string, make: (language: string) => T): T {
  const key = `${i18n.language} ${what}`;
  if (!made.has(key)) made.set(key, make(i18n.language));
  return made.get(key) as T;
}
const numbers = (options: Intl.NumberFormatOptions = {}) => kept(JSON.stringify(options), (lng) => new Intl.NumberFormat(lng, options));
const times = (options: Intl.DateTimeFormatOptions) => kept(JSON.stringify(options), (lng) => new Intl.DateTimeFormat(lng, options));

/** Numbers and times as the reader writes them. */
export const format = {
  number: (n: number) => numbers().format(n),
  percent: (n: number) => numbers({ style: 'percent', maximumFractionDigits: 0 }).format(n),
  money: (minor: number, currency: string) => {
    const shape = numbers({ style: 'currency', currency });
    return shape.format(minor / 10 ** (shape.resolvedOptions().maximumFractionDigits ?? 2));
  },
  usd: (n: number) => numbers({ style: 'currency', currency: 'USD', maximumFractionDigits: 4 }).format(n),
  span: (ms: number) => {
    const seconds = Math.max(0, Math.round(ms / 1000));
    const [n, unit] = seconds < 120 ? [seconds, 'second'] : seconds < 7200 ? [Math.round(seconds / 60), 'minute'] : [Math.round(seconds / 3600), 'hour'];
    return numbers({ style: 'unit', unit, unitDisplay: 'long' }).format(n);
  },
  score: (n: number) => numbers({ minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(n),
  time: (t: string) => times({ dateStyle: 'medium', timeStyle: 'short' }).format(new Date(t)),
  date: (t: string) => times({ dateStyle: 'medium' }).format(new Date(t)),
  dayMonth: (t: string) => times({ day: 'numeric', month: 'short', timeZone: 'UTC' }).format(new Date(t)),
  bytes: (n: number) => {
    const power = n > 0 ? Math.min(4, Math.floor(Math.log10(n) / 3)) : 0;
    const unit = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'][power];
    return numbers({ style: 'unit', unit, maximumFractionDigits: 1 }).format(n / 1000 ** power);
  },
  country: (code: string) => {
    try {
      return kept('regions', (lng) => new Intl.DisplayNames([lng], { type: 'region' })).of(code) ?? code;
    } catch {
      return code;
    }
  },
};

export default i18n;
