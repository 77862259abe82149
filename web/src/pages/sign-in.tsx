import { Alert, Anchor, Button, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { hasPasskeys, signWithPasskey } from '../passkeys';
import { Refusal } from '../parts/states';
import { useSession } from '../session';

export function SignIn() {
  const { t } = useTranslation();
  const { next, sso } = useSearch({ from: '/site/sign-in' });
  const navigate = useNavigate();
  const { enter } = useSession();
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  useEffect(() => {
    document.title = `${t('nav.signIn')} · ChainReactions`;
  }, [t]);
  // Who one may sign in through: known to all, and those of an address's tenants.
  const [asked] = useDebouncedValue(/^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(email) ? email : '', 400);
  const others = useQuery({ queryKey: ['providers', asked], queryFn: () => data(api.GET('/api/v1/auth/providers', { params: { query: asked ? { email: asked } : {} } })), staleTime: 60_000, retry: false });
  const login = useMutation({
    mutationFn: async () => {
      // Six digits are the app's; anything else is a recovery code.
      const factor = !code ? {} : /^\d{6}$/.test(code) ? { totp: code } : { recovery_code: code };
      await enter(await data(api.POST('/api/v1/auth/login', { body: { email, password, ...factor } })));
      await navigate({ href: next ?? '/app' });
    },
  });
  const passkey = useMutation({
    mutationFn: async () => {
      const { ceremony, options } = await data(api.POST('/api/v1/auth/passkeys/login/start'));
      const response = await signWithPasskey(options);
      await enter(await data(api.POST('/api/v1/auth/passkeys/login/finish', { body: { ceremony, response } })));
      await navigate({ href: next ?? '/app' });
    },
  });
  const problem = login.error instanceof Problem ? login.error : null;
  return (
    <Stack maw={420} mx="auto" gap="md">
      <Title order={1} size="h2">
        {t('signIn.title')}
      </Title>
      {sso && <Alert color="red" role="alert" title={t(`ssoFault.${sso}` as 'ssoFault.sso_failed', { defaultValue: t('ssoFault.sso_failed') })} />}
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
      {others.data?.data.map((o) => (
        <Button key={o.provider} component="a" variant="default" href={`${o.start_url}${o.start_url.includes('?') ? '&' : '?'}return_to=${encodeURIComponent(next ?? '/app')}`}>
          {t('signIn.through', { name: o.name })}
        </Button>
      ))}
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
