import { Anchor, Button, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { hasPasskeys, signWithPasskey } from '../passkeys';
import { Refusal } from '../parts/states';
import { useSession } from '../session';

export function SignIn() {
  const { t } = useTranslation();
  const { next } = useSearch({ from: '/site/sign-in' });
  const navigate = useNavigate();
  const { enter } = useSession();
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  useEffect(() => {
    document.title = `${t('nav.signIn')} · ChainReactions`;
  }, [t]);
  const login = useMutation({
    mutationFn: async () => {
      // Six digits are the app's; anything else is a recovery code.
      const factor = !code ? {} : /^\d{6}$/.test(code) ? { totp: code } : { recovery_code: code };
      await enter(await data(api.POST('/api/v1/auth/login', { body: { email, password, ...factor } })));
      await navigate({ to: next ?? '/app' });
    },
  });
  const passkey = useMutation({
    mutationFn: async () => {
      const { ceremony, options } = await data(api.POST('/api/v1/auth/passkeys/login/start'));
      const response = await signWithPasskey(options);
      await enter(await data(api.POST('/api/v1/auth/passkeys/login/finish', { body: { ceremony, response } })));
      await navigate({ to: next ?? '/app' });
    },
  });
  const problem = login.error instanceof Problem ? login.error : null;
  return (
    <Stack maw={420} mx="auto" gap="md">
      <Title order={1} size="h2">
        {t('signIn.title')}
      </Title>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          login.mutate();
        }}
      >
        <Stack gap="md">
          <TextInput label={t('field.email')} type="email" name="email" autoComplete="username" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} error={problem?.fields.email} />
          <PasswordInput
            label={t('field.password')}
            name="password"
            autoComplete="current-password"
            required
            value={password}
            onChange={(e) => setPassword(e.currentTarget.value)}
            visibilityToggleButtonProps={{ 'aria-label': t('field.showPassword') }}
            error={problem?.fields.password}
          />
          {(problem?.code === 'mfa_required' || code) && <TextInput label={t('signIn.code')} autoComplete="one-time-code" required value={code} onChange={(e) => setCode(e.currentTarget.value.trim())} autoFocus />}
          {login.isError && problem?.code !== 'mfa_required' && <Refusal error={login.error} />}
          <Button type="submit" loading={login.isPending}>
            {t('nav.signIn')}
          </Button>
        </Stack>
      </form>
      {hasPasskeys() && (
        <Button variant="default" onClick={() => passkey.mutate()} loading={passkey.isPending}>
          {t('signIn.passkey')}
        </Button>
      )}
      {passkey.isError && <Refusal error={passkey.error} />}
      <Anchor component={Link} to="/forgot-password" size="sm">
        {t('forgot.title')}
      </Anchor>
      <Text size="sm">
        {t('signIn.new')}{' '}
        <Anchor component={Link} to="/sign-up" underline="always">
          {t('nav.signUp')}
        </Anchor>
      </Text>
    </Stack>
  );
}
