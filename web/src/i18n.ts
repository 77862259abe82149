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

const kept = localStorage.getItem('language');
const language = kept === 'en' || kept === 'zh-CN' ? kept : navigator.language.startsWith('zh') ? 'zh-CN' : 'en';

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

/** Numbers and times as the reader writes them. */
export const format = {
  number: (n: number) => new Intl.NumberFormat(i18n.language).format(n),
  percent: (n: number) => new Intl.NumberFormat(i18n.language, { style: 'percent', maximumFractionDigits: 0 }).format(n),
  money: (minor: number, currency: string) => {
    const shape = new Intl.NumberFormat(i18n.language, { style: 'currency', currency });
    return shape.format(minor / 10 ** (shape.resolvedOptions().maximumFractionDigits ?? 2));
  },
  usd: (n: number) => new Intl.NumberFormat(i18n.language, { style: 'currency', currency: 'USD' }).format(n),
  span: (ms: number) => {
    const seconds = Math.max(0, Math.round(ms / 1000));
    const [n, unit] = seconds < 120 ? [seconds, 'second'] : seconds < 7200 ? [Math.round(seconds / 60), 'minute'] : [Math.round(seconds / 3600), 'hour'];
    return new Intl.NumberFormat(i18n.language, { style: 'unit', unit, unitDisplay: 'long' }).format(n);
  },
  score: (n: number) => new Intl.NumberFormat(i18n.language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(n),
  time: (t: string) => new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(t)),
  date: (t: string) => new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium' }).format(new Date(t)),
  dayMonth: (t: string) => new Intl.DateTimeFormat(i18n.language, { day: 'numeric', month: 'short', timeZone: 'UTC' }).format(new Date(t)),
  bytes: (n: number) => {
    const power = n > 0 ? Math.min(4, Math.floor(Math.log10(n) / 3)) : 0;
    const unit = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'][power];
    return new Intl.NumberFormat(i18n.language, { style: 'unit', unit, maximumFractionDigits: 1 }).format(n / 1000 ** power);
  },
  country: (code: string) => {
    try {
      return new Intl.DisplayNames([i18n.language], { type: 'region' }).of(code) ?? code;
    } catch {
      return code;
    }
  },
};

export default i18n;
