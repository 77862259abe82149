// What every page's header has: the name, the language, light or dark.
import { ActionIcon, Group, Text, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';
import { IconLanguage, IconMoon, IconSun } from '@tabler/icons-react';
import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';

export function Brand({ to }: { to: '/' | '/app' }) {
  return (
    <Link to={to} className="plain">
      <Group gap={8} wrap="nowrap">
        <img src="/favicon.svg" width={26} height={26} alt="" />
        <Text fw={700} size="lg">
          ChainReactions
        </Text>
      </Group>
    </Link>
  );
}

export function Preferences() {
  const { t, i18n } = useTranslation();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme('light');
  const other = i18n.language === 'zh-CN' ? 'en' : 'zh-CN';
  return (
    <Group gap={4} wrap="nowrap">
      <ActionIcon className="language" variant="subtle" color="gray" size="lg" onClick={() => void i18n.changeLanguage(other)} aria-label={t('chrome.language')} title={t('chrome.language')}>
        <IconLanguage size={20} />
      </ActionIcon>
      <ActionIcon variant="subtle" color="gray" size="lg" onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')} aria-label={t(scheme === 'dark' ? 'chrome.light' : 'chrome.dark')} title={t(scheme === 'dark' ? 'chrome.light' : 'chrome.dark')}>
        {scheme === 'dark' ? <IconSun size={20} /> : <IconMoon size={20} />}
      </ActionIcon>
    </Group>
  );
}
