import { Anchor, Button, Checkbox, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { Empty, Refusal } from '../parts/states';
import { useSession } from '../session';

export function SignUp() {
  const { t, i18n } = useTranslation();
  const navigate = useNavigate();
  const { enter } = useSession();
  const [form, setForm] = useState({ full_name: '', workspace_name: '', email: '', password: '', accept_terms: false });
  useEffect(() => {
    document.title = `${t('nav.signUp')} · ChainReactions`;
  }, [t]);
  const signUp = useMutation({
    mutationFn: async () => {
      const out = await data(api.POST('/api/v1/auth/signup', { body: { ...form, locale: i18n.language === 'zh-CN' ? 'zh-CN' : 'en' } }));
      if (!out.access_token) return out; // a mail is on its way
      await enter({ access_token: out.access_token });
      await navigate({ to: '/app' });
      return out;
    },
  });
  const problem = signUp.error instanceof Problem ? signUp.error : null;
  const input = (name: 'full_name' | 'workspace_name' | 'email' | 'password') => ({
    name,
    required: true,
    value: form[name],
    onChange: (e: React.ChangeEvent<HTMLInputElement>) => setForm({ ...form, [name]: e.currentTarget.value }),
    error: problem?.fields[name],
  });
  if (signUp.data && !signUp.data.access_token) return <Empty page title={t('signUp.sent')} text={t('signUp.sentText', { email: form.email })} />;
  return (
    <Stack maw={420} mx="auto" gap="md">
      <Title order={1} size="h2">
        {t('signUp.title')}
      </Title>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          signUp.mutate();
        }}
      >
        <Stack gap="md">
          <TextInput label={t('field.name')} autoComplete="name" {...input('full_name')} />
          <TextInput label={t('field.workspace')} autoComplete="organization" {...input('workspace_name')} />
          <TextInput label={t('field.email')} type="email" autoComplete="username" {...input('email')} />
          <PasswordInput
            label={t('field.password')}
            description={t('field.passwordRule')}
            autoComplete="new-password"
            visibilityToggleButtonProps={{ 'aria-label': t('field.showPassword') }}
            {...input('password')}
          />
          <Checkbox
            required
            checked={form.accept_terms}
            onChange={(e) => setForm({ ...form, accept_terms: e.currentTarget.checked })}
            label={
              <>
                {t('signUp.accept')} <Anchor component={Link} to="/terms" underline="always">{t('nav.terms')}</Anchor>
              </>
            }
            error={problem?.fields.accept_terms}
          />
          {signUp.isError && <Refusal error={signUp.error} />}
          <Button type="submit" loading={signUp.isPending}>
            {t('signUp.submit')}
          </Button>
        </Stack>
      </form>
      <Text size="sm">
        {t('signUp.have')}{' '}
        <Anchor component={Link} to="/sign-in" underline="always">
          {t('nav.signIn')}
        </Anchor>
      </Text>
    </Stack>
  );
}
