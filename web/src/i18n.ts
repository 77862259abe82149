import i18n from 'i18next';
import { initReactI18next } from 'react-i18next';
import { en } from './en';
import { zh } from './zh';

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

const kept = localStorage.getItem('language');
const language = kept === 'en' || kept === 'zh-CN' ? kept : navigator.language.startsWith('zh') ? 'zh-CN' : 'en';

void i18n.use(initReactI18next).init({
  resources: { en: { translation: en }, 'zh-CN': { translation: zh } },
  lng: language,
  fallbackLng: 'en',
  keySeparator: false,
  nsSeparator: false,
  interpolation: { escapeValue: false }, // React escapes
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
  score: (n: number) => new Intl.NumberFormat(i18n.language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(n),
  time: (t: string) => new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(t)),
  date: (t: string) => new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium' }).format(new Date(t)),
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
