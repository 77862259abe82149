import { Button, Card, PasswordInput, Select, Stack, TextInput, Title } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Page, Section } from '../parts/page';
import { Refusal } from '../parts/states';
import { Telling } from '../parts/telling';
import { useSession } from '../session';

export function Account() {
  const { t } = useTranslation();
  return (
    <Page title={t('nav.account')}>
      <Profile />
      <Email />
      <Telling />
    </Page>
  );
}

function Profile() {
  const { t, i18n } = useTranslation();
  const { me } = useSession();
  const cache = useQueryClient();
  const [name, setName] = useState(me?.user?.full_name ?? '');
  const [locale, setLocale] = useState<'en' | 'zh-CN'>(me?.user?.locale === 'zh-CN' ? 'zh-CN' : 'en');
  const save = useMutation({
    mutationFn: () => data(api.PATCH('/api/v1/me', { body: { full_name: name, locale } })),
    onSuccess: async () => {
      await i18n.changeLanguage(locale);
      await cache.invalidateQueries({ queryKey: ['me'] });
    },
  });
  const problem = save.error instanceof Problem ? save.error : null;
  return (
    <Card withBorder padding="lg" maw={560}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate();
        }}
      >
        <Stack>
          <Title order={2} size="h4">
            {t('account.profile')}
          </Title>
          <TextInput label={t('field.name')} value={name} onChange={(e) => setName(e.currentTarget.value)} error={problem?.fields.full_name} required />
          <Select label={t('account.language')} value={locale} onChange={(v) => setLocale(v === 'zh-CN' ? 'zh-CN' : 'en')} data={[{ value: 'en', label: 'English' }, { value: 'zh-CN', label: '简体中文' }]} allowDeselect={false} />
          {save.isError && <Refusal error={save.error} />}
          <Button type="submit" loading={save.isPending} w="fit-content">
            {t('action.save')}
          </Button>
        </Stack>
      </form>
    </Card>
  );
}

/** Another address: both the old and the new one must confirm it by mail. */
function Email() {
  const { t } = useTranslation();
  const { me } = useSession();
  const [opened, setOpened] = useState(false);
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const change = useAct(() => data(api.POST('/api/v1/auth/email/change', { body: { new_email: email, password } })), {
    said: t('account.emailSent', { email }),
    done: () => {
      setOpened(false);
      setPassword('');
    },
  });
  const problem = change.error instanceof Problem ? change.error : null;
  return (
    <Section
      title={t('field.email')}
      text={me?.user?.email}
      action={
        <Button variant="default" onClick={() => setOpened(true)}>
          {t('account.changeEmail')}
        </Button>
      }
    >
      <FormDialog opened={opened} close={() => setOpened(false)} title={t('account.changeEmail')} submit={() => change.mutate()} doing={change} label={t('action.save')} ready={email !== '' && password !== ''}>
        <TextInput label={t('account.newEmail')} type="email" autoComplete="email" value={email} onChange={(e) => setEmail(e.currentTarget.value)} error={problem?.fields.new_email} data-autofocus />
        <PasswordInput label={t('field.password')} autoComplete="current-password" value={password} onChange={(e) => setPassword(e.currentTarget.value)} visibilityToggleButtonProps={{ 'aria-label': t('field.showPassword') }} error={problem?.fields.password} />
      </FormDialog>
    </Section>
  );
}
