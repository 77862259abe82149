import { Stack, Text, Title } from '@mantine/core';
import { useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import type { Key } from '../i18n';

function Legal({ title, sections }: { title: Key; sections: [Key, Key][] }) {
  const { t } = useTranslation();
  useEffect(() => {
    document.title = `${t(title)} · ChainReactions`;
  }, [t, title]);
  return (
    <Stack gap="lg" maw={720}>
      <Title order={1}>{t(title)}</Title>
      {sections.map(([head, text]) => (
        <section key={head}>
          <Title order={2} size="h4">
            {t(head)}
          </Title>
          <Text>{t(text)}</Text>
        </section>
      ))}
    </Stack>
  );
}

export const Privacy = () => (
  <Legal
    title="nav.privacy"
    sections={[
      ['privacy.what', 'privacy.whatText'],
      ['privacy.whose', 'privacy.whoseText'],
      ['privacy.rights', 'privacy.rightsText'],
    ]}
  />
);

export const Terms = () => (
  <Legal
    title="nav.terms"
    sections={[
      ['terms.use', 'terms.useText'],
      ['terms.lists', 'terms.listsText'],
      ['terms.decision', 'terms.decisionText'],
    ]}
  />
);
