import { Button, Code, CopyButton, Group, PasswordInput, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import QRCode from 'react-qr-code';
import { api, data, Problem, type Schema } from '../api';
import { format } from '../i18n';
import { hasPasskeys, makePasskey } from '../passkeys';
import { useAct, say } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Rows } from '../parts/rows';
import { OnceDialog } from '../parts/secret';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

export function Security() {
  const { t } = useTranslation();
  return (
    <Page title={t('nav.security')} text={t('security.text')}>
      <App />
      {hasPasskeys() && <Passkeys />}
      <Password />
      <Sessions />
    </Page>
  );
}

/** Codes of an authenticator app. */
function App() {
  const { t } = useTranslation();
  const { me } = useSession();
  const [set, setSet] = useState<Schema<'TOTPResponse'> | null>(null);
  const [codes, setCodes] = useState<string | null>(null);
  const since = me?.user?.totp_since;
  const begin = useAct(() => data(api.POST('/api/v1/auth/mfa/totp')), { done: setSet });
  const off = useAct(() => data(api.DELETE('/api/v1/auth/mfa/totp')), { refresh: ['me', 'sessions'], said: t('security.appOff') });
  return (
    <Section
      title={t('security.app')}
      text={since ? t('security.appSince', { date: format.date(since) }) : t('security.appText')}
      action={
        since ? (
          <Button variant="default" onClick={() => off.mutate()} loading={off.isPending}>
            {t('security.turnOff')}
          </Button>
        ) : (
          <Button onClick={() => begin.mutate()} loading={begin.isPending}>
            {t('security.setUp')}
          </Button>
        )
      }
    >
      {(begin.isError || off.isError) && <Refusal error={begin.error ?? off.error} />}
      {set && (
        <Confirm
          set={set}
          close={() => setSet(null)}
          done={(list) => {
            setSet(null);
            setCodes(list.join('\n'));
          }}
        />
      )}
      <OnceDialog value={codes} title={t('security.codes')} close={() => setCodes(null)}>
        <Text size="sm">{t('security.codesText')}</Text>
      </OnceDialog>
    </Section>
  );
}

function Confirm({ set, close, done }: { set: Schema<'TOTPResponse'>; close: () => void; done: (codes: string[]) => void }) {
  const { t } = useTranslation();
  const [code, setCode] = useState('');
  const confirm = useAct(() => data(api.POST('/api/v1/auth/mfa/totp/confirm', { body: { code } })), { refresh: ['me', 'sessions'], done: (answer) => done(answer.recovery_codes) });
  return (
    <FormDialog opened close={close} title={t('security.app')} submit={() => confirm.mutate()} doing={confirm} label={t('security.confirm')} ready={/^\d{6}$/.test(code)}>
      <Text size="sm">{t('security.scan')}</Text>
      {/* White around it in the dark too: a camera wants dark on light. */}
      <Group justify="center" p="md" bg="white">
        <QRCode value={set.otpauth_url} size={180} role="img" aria-label={t('security.qr')} />
      </Group>
      <Group gap="xs">
        <Code>{set.secret}</Code>
        <CopyButton value={set.secret}>
          {({ copied, copy }) => (
            <Button size="xs" variant="default" onClick={copy}>
              {t(copied ? 'action.copied' : 'action.copy')}
            </Button>
          )}
        </CopyButton>
      </Group>
      <TextInput label={t('security.code')} inputMode="numeric" autoComplete="one-time-code" maxLength={6} value={code} onChange={(e) => setCode(e.currentTarget.value.normalize('NFKC').trim())} data-autofocus />
    </FormDialog>
  );
}

function Passkeys() {
  const { t } = useTranslation();
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState('');
  const keys = useQuery({ queryKey: ['passkeys'], queryFn: () => data(api.GET('/api/v1/auth/passkeys')) });
  const remove = useAct((id: string) => data(api.DELETE('/api/v1/auth/passkeys/{id}', { params: { path: { id } } })), { refresh: ['passkeys'] });
  const add = useAct(
    async () => {
      const { ceremony, options } = await data(api.POST('/api/v1/auth/passkeys/register/start'));
      const response = await makePasskey(options);
      return data(api.POST('/api/v1/auth/passkeys/register/finish', { body: { ceremony, name, response } }));
    },
    {
      refresh: ['passkeys'],
      said: t('security.passkeyAdded'),
      done: () => {
        setAdding(false);
        setName('');
      },
    },
  );
  return (
    <Section title={t('security.passkeys')} text={t('security.passkeysText')} action={<Button onClick={() => setAdding(true)}>{t('security.addPasskey')}</Button>}>
      {remove.isError && <Refusal error={remove.error} />}
      <Answer of={keys}>
        {(page) =>
          page.data.length > 0 && (
            <Rows
              label={t('security.passkeys')}
              rows={page.data}
              id={(k) => k.id}
              columns={[
                { label: t('field.title'), show: (k) => k.name },
                { label: t('keys.used'), show: (k) => (k.last_used_at ? format.time(k.last_used_at) : t('keys.never')) },
                {
                  label: t('field.actions'),
                  show: (k) => (
                    <Button size="xs" variant="default" onClick={() => remove.mutate(k.id)} aria-label={t('security.removePasskey', { name: k.name })}>
                      {t('team.remove')}
                    </Button>
                  ),
                },
              ]}
            />
          )
        }
      </Answer>
      <FormDialog opened={adding} close={() => setAdding(false)} title={t('security.addPasskey')} submit={() => add.mutate()} doing={add} label={t('action.create')} ready={name.trim() !== ''}>
        <TextInput label={t('field.title')} description={t('security.passkeyName')} maxLength={100} value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus />
      </FormDialog>
    </Section>
  );
}

function Password() {
  const { t } = useTranslation();
  const [opened, setOpened] = useState(false);
  const [now, setNow] = useState('');
  const [next, setNext] = useState('');
  const change = useAct(() => data(api.POST('/api/v1/auth/password/change', { body: { current_password: now, new_password: next } })), {
    refresh: ['sessions'],
    done: () => {
      setOpened(false);
      setNow('');
      setNext('');
      say(t('security.passwordChanged'));
    },
  });
  const problem = change.error instanceof Problem ? change.error : null;
  const eye = { 'aria-label': t('field.showPassword') };
  return (
    <Section
      title={t('field.password')}
      text={t('security.passwordText')}
      action={
        <Button variant="default" onClick={() => setOpened(true)}>
          {t('security.changePassword')}
        </Button>
      }
    >
      <FormDialog opened={opened} close={() => setOpened(false)} title={t('security.changePassword')} submit={() => change.mutate()} doing={change} label={t('action.save')} ready={now !== '' && next !== ''}>
        <PasswordInput label={t('security.current')} autoComplete="current-password" value={now} onChange={(e) => setNow(e.currentTarget.value)} visibilityToggleButtonProps={eye} error={problem?.fields.current_password} data-autofocus />
        <PasswordInput label={t('security.new')} description={t('field.passwordRule')} autoComplete="new-password" value={next} onChange={(e) => setNext(e.currentTarget.value)} visibilityToggleButtonProps={eye} error={problem?.fields.new_password} />
      </FormDialog>
    </Section>
  );
}

function Sessions() {
  const { t } = useTranslation();
  const sessions = useQuery({ queryKey: ['sessions'], queryFn: () => data(api.GET('/api/v1/auth/sessions')) });
  const end = useAct((id: string) => data(api.DELETE('/api/v1/auth/sessions/{id}', { params: { path: { id } } })), { refresh: ['sessions'] });
  return (
    <Section title={t('account.sessions')}>
      {end.isError && <Refusal error={end.error} />}
      <Answer of={sessions}>
        {(page) => (
          <Rows
            label={t('account.sessions')}
            rows={page.data}
            id={(s) => s.id}
            columns={[
              {
                label: t('account.device'),
                show: (s) => (
                  <Text size="sm" lineClamp={1}>
                    {s.user_agent}
                  </Text>
                ),
              },
              { label: t('account.address'), show: (s) => s.ip },
              { label: t('account.seen'), show: (s) => format.time(s.seen_at) },
              {
                label: t('field.actions'),
                show: (s) =>
                  s.current ? (
                    <Mark>{t('account.current')}</Mark>
                  ) : (
                    <Button size="xs" variant="default" onClick={() => end.mutate(s.id)}>
                      {t('account.end')}
                    </Button>
                  ),
              },
            ]}
          />
        )}
      </Answer>
    </Section>
  );
}
