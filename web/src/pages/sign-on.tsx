import { Badge, Button, Card, Code, Group, SegmentedControl, Select, Stack, Switch, Text, Textarea, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Page, Section } from '../parts/page';
import { useRoles } from '../parts/roles';
import { Rows } from '../parts/rows';
import { OnceDialog } from '../parts/secret';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

/** How the people of the workspace get in: its policy, its own identity providers, its directory. */
export function SignOn() {
  const { t } = useTranslation();
  const { may } = useSession();
  const tenant = useQuery({ queryKey: ['tenant'], queryFn: () => data(api.GET('/api/v1/tenant')) });
  return (
    <Page title={t('nav.signOn')} text={t('signOn.text')}>
      <Answer of={tenant}>{(d) => <Policy details={d} />}</Answer>
      <Connections />
      {may('tenant:write') && (
        <>
          <Directory />
          <Groups />
        </>
      )}
    </Page>
  );
}

function Policy({ details }: { details: Schema<'Details'> }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const save = useAct((change: Partial<Schema<'TenantSettings'>>) => data(api.PATCH('/api/v1/tenant', { body: { settings: { ...details.settings, ...change } } })), { refresh: ['tenant'], said: t('workspace.saved') });
  const fixed = !may('tenant:write') || save.isPending;
  return (
    <Section title={t('signOn.policy')}>
      {save.isError && <Refusal error={save.error} />}
      <Switch label={t('signOn.mfa')} description={t('signOn.mfaText')} checked={details.settings.require_mfa ?? false} onChange={(e) => save.mutate({ require_mfa: e.currentTarget.checked })} disabled={fixed} />
      <Switch label={t('signOn.sso')} description={t('signOn.ssoText')} checked={details.settings.require_sso ?? false} onChange={(e) => save.mutate({ require_sso: e.currentTarget.checked })} disabled={fixed} />
    </Section>
  );
}

function Connections() {
  const { t } = useTranslation();
  const { may } = useSession();
  const [adding, setAdding] = useState(false);
  const list = useQuery({ queryKey: ['connections'], queryFn: () => data(api.GET('/api/v1/tenant/sso')) });
  const turn = useAct(({ id, enabled }: { id: string; enabled: boolean }) => data(api.PATCH('/api/v1/tenant/sso/{id}', { params: { path: { id } }, body: { enabled } })), { refresh: ['connections'] });
  const remove = useAct((id: string) => data(api.DELETE('/api/v1/tenant/sso/{id}', { params: { path: { id } } })), { refresh: ['connections'] });
  return (
    <Section title={t('signOn.providers')} text={t('signOn.providersText')} action={may('tenant:write') && <Button onClick={() => setAdding(true)}>{t('signOn.add')}</Button>}>
      {(turn.isError || remove.isError) && <Refusal error={turn.error ?? remove.error} />}
      <Answer of={list}>
        {(page) =>
          page.data.map((c) => (
            <Card withBorder key={c.id}>
              <Stack gap="xs">
                <Group justify="space-between">
                  <Group gap="sm">
                    <Text fw={600}>{c.name}</Text>
                    <Badge variant="default">{t(`signOn.${c.kind}`)}</Badge>
                  </Group>
                  {may('tenant:write') && (
                    <Group gap="sm">
                      <Switch label={t('signOn.on')} aria-label={t('signOn.onOne', { name: c.name })} checked={c.enabled} onChange={(e) => turn.mutate({ id: c.id, enabled: e.currentTarget.checked })} disabled={turn.isPending} />
                      <Button size="xs" variant="default" onClick={() => remove.mutate(c.id)} aria-label={t('domains.removeOne', { name: c.name })}>
                        {t('team.remove')}
                      </Button>
                    </Group>
                  )}
                </Group>
                <Text size="sm">{t('signOn.tell')}</Text>
                <Code block tabIndex={0}>
                  {[c.callback_url, ...(c.metadata_url ? [c.metadata_url] : [])].join('\n')}
                </Code>
                <Text size="sm" c="dimmed">
                  {c.issuer}
                </Text>
              </Stack>
            </Card>
          ))
        }
      </Answer>
      {adding && <AddConnection close={() => setAdding(false)} />}
    </Section>
  );
}

function AddConnection({ close }: { close: () => void }) {
  const { t } = useTranslation();
  const { choices } = useRoles();
  const [kind, setKind] = useState<'oidc' | 'saml'>('oidc');
  const [fields, setFields] = useState({ name: '', issuer: '', client_id: '', client_secret: '', metadata: '', default_role: 'viewer' });
  const add = useAct(
    () => {
      const { name, default_role, metadata, ...oidc } = fields;
      return data(api.POST('/api/v1/tenant/sso', { body: { kind, name, default_role, ...(kind === 'oidc' ? oidc : { metadata }) } }));
    },
    { refresh: ['connections'], done: close },
  );
  const problem = add.error instanceof Problem ? add.error : null;
  const field = (of: keyof typeof fields) => ({ value: fields[of], onChange: (e: { currentTarget: { value: string } }) => setFields({ ...fields, [of]: e.currentTarget.value }), error: problem?.fields[of], autoComplete: 'off' });
  const ready = fields.name.trim() !== '' && (kind === 'oidc' ? fields.issuer !== '' && fields.client_id !== '' && fields.client_secret !== '' : fields.metadata.trim() !== '');
  return (
    <FormDialog opened close={close} title={t('signOn.add')} submit={() => add.mutate()} doing={add} label={t('signOn.add')} ready={ready} size="lg">
      <SegmentedControl aria-label={t('signOn.kind')} value={kind} onChange={(v) => setKind(v as typeof kind)} data={(['oidc', 'saml'] as const).map((k) => ({ value: k, label: t(`signOn.${k}`) }))} />
      <TextInput label={t('signOn.name')} description={t('signOn.nameText')} maxLength={60} {...field('name')} data-autofocus />
      {kind === 'oidc' ? (
        <>
          <TextInput label={t('signOn.issuer')} {...field('issuer')} />
          <TextInput label={t('signOn.clientId')} {...field('client_id')} />
          <TextInput label={t('signOn.clientSecret')} description={t('signOn.secretText')} type="password" {...field('client_secret')} />
        </>
      ) : (
        <Textarea label={t('signOn.metadata')} description={t('signOn.metadataText')} autosize minRows={4} maxRows={12} {...field('metadata')} />
      )}
      <Select
        label={t('signOn.role')}
        description={t('signOn.roleText')}
        data={choices.filter((c) => c.value !== 'owner')}
        value={fields.default_role}
        onChange={(role) => role && setFields({ ...fields, default_role: role })}
        allowDeselect={false}
        error={problem?.fields.default_role}
      />
    </FormDialog>
  );
}

/** Tokens that let the workspace's directory make and retire accounts (SCIM 2.0). */
function Directory() {
  const { t } = useTranslation();
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState('');
  const [made, setMade] = useState<Schema<'NewSCIMToken'> | null>(null);
  const tokens = useQuery({ queryKey: ['scim-tokens'], queryFn: () => data(api.GET('/api/v1/tenant/scim-tokens')) });
  const add = useAct(() => data(api.POST('/api/v1/tenant/scim-tokens', { body: { name: name.trim() } })), {
    refresh: ['scim-tokens'],
    done: (token) => {
      setAdding(false);
      setName('');
      setMade(token);
    },
  });
  const revoke = useAct((id: string) => data(api.DELETE('/api/v1/tenant/scim-tokens/{id}', { params: { path: { id } } })), { refresh: ['scim-tokens'] });
  return (
    <Section title={t('directory.title')} text={t('directory.text')} action={<Button onClick={() => setAdding(true)}>{t('directory.add')}</Button>}>
      {revoke.isError && <Refusal error={revoke.error} />}
      <Answer of={tokens}>
        {(page) =>
          page.data.length > 0 && (
            <Rows
              label={t('directory.title')}
              rows={page.data}
              id={(k) => k.id}
              columns={[
                { label: t('field.title'), show: (k) => k.name },
                { label: t('keys.used'), show: (k) => (k.last_used_at ? format.time(k.last_used_at) : t('keys.never')) },
                {
                  label: t('field.actions'),
                  show: (k) => (
                    <Button size="xs" variant="default" onClick={() => revoke.mutate(k.id)} aria-label={t('directory.revokeOne', { name: k.name })}>
                      {t('team.revoke')}
                    </Button>
                  ),
                },
              ]}
            />
          )
        }
      </Answer>
      <FormDialog opened={adding} close={() => setAdding(false)} title={t('directory.add')} submit={() => add.mutate()} doing={add} label={t('directory.add')} ready={name.trim() !== ''}>
        <TextInput label={t('field.title')} maxLength={60} value={name} onChange={(e) => setName(e.currentTarget.value)} data-autofocus />
      </FormDialog>
      <OnceDialog value={made?.token ?? null} title={t('directory.token')} close={() => setMade(null)}>
        <Text size="sm">{t('directory.base')}</Text>
        <Code block tabIndex={0}>
          {made?.base_url}
        </Code>
      </OnceDialog>
    </Section>
  );
}

/** The directory's groups, each with the role that its members have here; shown once the directory tells of one. */
function Groups() {
  const { t } = useTranslation();
  const { choices } = useRoles();
  const groups = useQuery({ queryKey: ['scim-groups'], queryFn: () => data(api.GET('/api/v1/tenant/scim-groups', { params: { query: { limit: 200 } } })) });
  const map = useAct(({ id, role }: { id: string; role: string | null }) => data(api.PATCH('/api/v1/tenant/scim-groups/{id}', { params: { path: { id } }, body: { role } })), { refresh: ['scim-groups', 'members'] });
  if (groups.isSuccess && groups.data.data.length === 0) return null;
  return (
    <Section title={t('groups.title')} text={t('groups.text')}>
      {map.isError && <Refusal error={map.error} />}
      <Answer of={groups}>
        {(page) => (
          <Rows
            label={t('groups.title')}
            rows={page.data}
            id={(g) => g.id}
            columns={[
              { label: t('field.title'), show: (g) => g.name },
              { label: t('groups.members'), show: (g) => format.number(g.members) },
              {
                label: t('team.role'),
                show: (g) => (
                  <Select
                    aria-label={t('groups.roleOf', { name: g.name })}
                    data={[{ value: '', label: t('groups.none') }, ...choices.filter((c) => c.value !== 'owner')]}
                    value={g.role ?? ''}
                    onChange={(role) => map.mutate({ id: g.id, role: role || null })}
                    disabled={map.isPending}
                    allowDeselect={false}
                    maw={220}
                  />
                ),
              },
            ]}
          />
        )}
      </Answer>
    </Section>
  );
}
