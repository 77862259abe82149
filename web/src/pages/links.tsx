// Where the links in our mails lead. Their secrets stand after the #, which
// browsers keep from servers and referrers.
import { Button, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { Link, useLocation } from '@tanstack/react-router';
import { useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { Refusal } from '../parts/states';

/** Asks for a link; the answer does not tell whether the address has an account. */
export function ForgotPassword() {
  const { t } = useTranslation();
  const [email, setEmail] = useState('');
  const ask = useMutation({ mutationFn: () => data(api.POST('/api/v1/auth/password/forgot', { body: { email } })) });
  return (
    <Stack maw={420} mx="auto">
      <Title order={1} size="h2">
        {t('forgot.title')}
      </Title>
      {ask.isSuccess ? (
        <Text role="status">{t('forgot.sent', { email })}</Text>
      ) : (
        <form
          onSubmit={(e) => {
            e.preventDefault();
            ask.mutate();
          }}
        >
          <Stack>
            <TextInput label={t('field.email')} type="email" autoComplete="username" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} />
            {ask.isError && <Refusal error={ask.error} />}
            <Button type="submit" loading={ask.isPending}>
              {t('forgot.submit')}
            </Button>
          </Stack>
        </form>
      )}
    </Stack>
  );
}

export function ResetPassword() {
  const { t } = useTranslation();
  const { hash: token } = useLocation();
  const [password, setPassword] = useState('');
  const reset = useMutation({ mutationFn: () => data(api.POST('/api/v1/auth/password/reset', { body: { token, password } })) });
  const problem = reset.error instanceof Problem ? reset.error : null;
  return (
    <Stack maw={420} mx="auto">
      <Title order={1} size="h2">
        {t('reset.title')}
      </Title>
      {reset.isSuccess ? (
        <Done />
      ) : (
        <form
          onSubmit={(e) => {
            e.preventDefault();
            reset.mutate();
          }}
        >
          <Stack>
            <PasswordInput
              label={t('field.password')}
              description={t('field.passwordRule')}
              autoComplete="new-password"
              required
              value={password}
              onChange={(e) => setPassword(e.currentTarget.value)}
              error={problem?.fields.password}
              visibilityToggleButtonProps={{ 'aria-label': t('field.showPassword') }}
            />
            {reset.isError && <Refusal error={reset.error} />}
            <Button type="submit" loading={reset.isPending}>
              {t('reset.submit')}
            </Button>
          </Stack>
        </form>
      )}
    </Stack>
  );
}

/** Confirms what a mail asks about. It takes a click: scanners of mail follow links too. */
function Confirm({ title, text, confirm, done }: { title: string; text?: string; confirm: (token: string) => Promise<unknown>; done: ReactNode }) {
  const { t } = useTranslation();
  const { hash: token } = useLocation();
  const confirming = useMutation({ mutationFn: () => confirm(token) });
  return (
    <Stack maw={420} mx="auto">
      <Title order={1} size="h2">
        {title}
      </Title>
      {confirming.isError && <Refusal error={confirming.error} />}
      {confirming.isSuccess ? (
        done
      ) : (
        <>
          {text && <Text>{text}</Text>}
          <Button onClick={() => confirming.mutate()} loading={confirming.isPending}>
            {t('confirm.submit')}
          </Button>
        </>
      )}
    </Stack>
  );
}

export function VerifyEmail() {
  const { t } = useTranslation();
  return <Confirm title={t('confirm.title')} confirm={(token) => data(api.POST('/api/v1/auth/verify-email', { body: { token } }))} done={<Done />} />;
}

export function ConfirmEmail() {
  const { t } = useTranslation();
  return <Confirm title={t('confirm.title')} confirm={(token) => data(api.POST('/api/v1/auth/email/confirm', { body: { token } }))} done={<Done />} />;
}

/** For a person without an account, who asked about their data in our customers' lists. */
export function PersonRequest() {
  const { t } = useTranslation();
  return (
    <Confirm
      title={t('personRequest.title')}
      text={t('personRequest.text')}
      confirm={(token) => data(api.POST('/api/v1/privacy/person-requests/confirm', { body: { token } }))}
      done={<Text role="status">{t('personRequest.done')}</Text>}
    />
  );
}

function Done() {
  const { t } = useTranslation();
  return (
    <>
      <Text role="status">{t('confirm.done')}</Text>
      <Button component={Link} to="/sign-in" w="fit-content">
        {t('nav.signIn')}
      </Button>
    </>
  );
}
