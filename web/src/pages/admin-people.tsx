import { Anchor, Badge, Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Page } from '../parts/page';
import { Reasoned } from '../parts/reason';
import { More, Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';

export function People() {
  const { t } = useTranslation();
  const [text, setText] = useState('');
  const [q] = useDebouncedValue(text.trim(), 250);
  const [asked, setAsked] = useState<Schema<'AdminUser'> | null>(null);
  const [open, setOpen] = useState<Schema<'AdminUser'> | null>(null);
  const people = useInfiniteQuery({
    queryKey: ['admin', 'users', q],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/admin/users', { params: { query: { limit: 50, ...(q ? { q } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  const end = useAct((id: string) => data(api.DELETE('/api/v1/admin/users/{id}/sessions', { params: { path: { id } } })), { refresh: ['admin'] });
  const shut = useAct(
    async (reason: string) => {
      if (!asked) return;
      const sent = { params: { path: { id: asked.id } }, body: { reason } };
      if (asked.disabled_at) await data(api.POST('/api/v1/admin/users/{id}/enable', sent));
      else await data(api.POST('/api/v1/admin/users/{id}/disable', sent));
    },
    { refresh: ['admin'], done: () => setAsked(null) },
  );
  return (
    <Page title={t('admin.people')} text={t('admin.peopleText')}>
      <TextInput aria-label={t('admin.find')} placeholder={t('admin.find')} value={text} onChange={(e) => setText(e.currentTarget.value)} />
      {end.isError && <Refusal error={end.error} />}
      <Answer of={people}>
        {(pages) => (
          <Rows
            label={t('admin.people')}
            rows={pages.pages.flatMap((p) => p.data)}
            id={(u) => u.id}
            columns={[
              {
                label: t('team.member'),
                show: (u) => (
                  <Stack gap={0}>
                    <Text fw={550}>
                      <Anchor component="button" type="button" onClick={() => setOpen(u)} fw={550}>
                        {u.full_name || u.email}
                      </Anchor>{' '}
                      {u.administrator && <Badge variant="default">{t('admin.administrator')}</Badge>}
                    </Text>
                    <Text size="sm" c="dimmed">
                      {u.email}
                    </Text>
                  </Stack>
                ),
              },
              { label: t('admin.since'), show: (u) => format.date(u.created_at) },
              { label: t('admin.factor'), show: (u) => (u.totp_since ? t('admin.yes') : t('admin.no')) },
              { label: t('admin.sessions'), show: (u) => format.number(u.sessions), end: true },
              { label: t('research.state'), show: (u) => t(u.disabled_at ? 'admin.shut' : 'tenant.active') },
              {
                label: t('field.actions'),
                show: (u) => (
                  <Group gap="xs">
                    {u.sessions > 0 && (
                      <Button size="xs" variant="default" onClick={() => end.mutate(u.id)} loading={end.isPending && end.variables === u.id} aria-label={t('admin.endOne', { person: u.email })}>
                        {t('admin.end')}
                      </Button>
                    )}
                    {!u.administrator && (
                      <Button size="xs" variant="default" onClick={() => setAsked(u)} aria-label={t(u.disabled_at ? 'admin.enableOne' : 'admin.disableOne', { person: u.email })}>
                        {t(u.disabled_at ? 'admin.enable' : 'admin.disable')}
                      </Button>
                    )}
                  </Group>
                ),
              },
            ]}
          />
        )}
      </Answer>
      <More of={people} />
      {asked && <Reasoned title={t(asked.disabled_at ? 'admin.enableOne' : 'admin.disableOne', { person: asked.email })} close={() => setAsked(null)} submit={shut.mutate} doing={shut} label={t(asked.disabled_at ? 'admin.enable' : 'admin.disable')} danger={!asked.disabled_at} />}
      {open && <Person of={open} close={() => setOpen(null)} />}
    </Page>
  );
}

/** One person, and the tenants they belong to. */
function Person({ of: u, close }: { of: Schema<'AdminUser'>; close: () => void }) {
  const { t } = useTranslation();
  const person = useQuery({ queryKey: ['admin', 'user', u.id], queryFn: () => data(api.GET('/api/v1/admin/users/{id}', { params: { path: { id: u.id } } })) });
  return (
    <Modal opened onClose={close} title={u.full_name || u.email} size="lg" closeButtonProps={{ 'aria-label': t('action.close') }}>
      <Answer of={person}>
        {(p) => (
          <Stack gap="sm">
            <Text size="sm">
              {p.email} · {p.id}
            </Text>
            <Text size="sm">
              {p.email_verified_at ? t('person.verified', { date: format.date(p.email_verified_at) }) : t('person.unverified')}
              {p.totp_since && ` · ${t('person.factor', { date: format.date(p.totp_since) })}`}
              {p.disabled_at && ` · ${t('person.shut', { date: format.time(p.disabled_at) })}`}
            </Text>
            {p.tenants.length === 0 ? (
              <Text c="dimmed">{t('person.nowhere')}</Text>
            ) : (
              <Rows
                label={t('admin.tenants')}
                rows={p.tenants}
                id={(x) => x.id}
                columns={[
                  {
                    label: t('admin.tenant'),
                    show: (x) => (
                      <Anchor component={Link} to="/app/admin/tenants/$id" params={{ id: x.id } as never}>
                        {x.name || x.slug}
                      </Anchor>
                    ),
                  },
                  { label: t('workspace.slug'), show: (x) => x.slug },
                  { label: t('team.role'), show: (x) => t(`role.${x.role}` as 'role.owner', { defaultValue: x.role }) },
                ]}
              />
            )}
          </Stack>
        )}
      </Answer>
    </Modal>
  );
}
