import { Accordion, Anchor, Button, Card, Code, Group, List, SegmentedControl, Select, SimpleGrid, Stack, Switch, Text, Textarea } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, saveFrom, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Destroy, FormDialog } from '../parts/dialog';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { More, Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

type Scope = 'user' | 'tenant';

// The wording that a consent is given to; a new one asks anew.
const wording = '2026-01';
const purposes = ['product_news', 'usage_analysis', 'third_country_transfer'] as const;

export function PrivacyCentre() {
  const { t } = useTranslation();
  const { may } = useSession();
  return (
    <Page title={t('nav.data')} text={t('data.text')}>
      <Exports />
      <Consents />
      <Retention />
      <Erasures />
      {may('privacy:export') && <PersonRequests />}
      <Register />
    </Page>
  );
}

function Exports() {
  const { t } = useTranslation();
  const { may } = useSession();
  const exports = useQuery({
    queryKey: ['exports'],
    queryFn: () => data(api.GET('/api/v1/privacy/exports')),
    refetchInterval: (q) => (q.state.data?.data.some((e) => e.status === 'queued') ? 1_500 : false),
  });
  const start = useAct((scope: Scope) => data(api.POST('/api/v1/privacy/exports', { body: { scope } })), { refresh: ['exports'] });
  const fetchIt = useAct((id: string) => data(api.GET('/api/v1/privacy/exports/{id}', { params: { path: { id } } })), {
    done: (made) => {
      if (made.url) saveFrom(made.url, `${made.scope}-${made.id}.zip`);
    },
  });
  return (
    <Section
      title={t('export.title')}
      text={t('export.text')}
      action={
        <Group gap="xs">
          <Button variant="default" onClick={() => start.mutate('user')} loading={start.isPending && start.variables === 'user'}>
            {t('export.mine')}
          </Button>
          {may('privacy:export') && (
            <Button onClick={() => start.mutate('tenant')} loading={start.isPending && start.variables === 'tenant'}>
              {t('export.workspace')}
            </Button>
          )}
        </Group>
      }
    >
      {(start.isError || fetchIt.isError) && <Refusal error={start.error ?? fetchIt.error} />}
      <Answer of={exports}>
        {(page) =>
          page.data.length > 0 && (
            <Rows
              label={t('export.title')}
              rows={page.data}
              id={(e) => e.id}
              columns={[
                { label: t('export.what'), show: (e) => t(`scopeOf.${e.scope}`) },
                { label: t('billing.date'), show: (e) => format.time(e.created_at) },
                { label: t('research.state'), show: (e) => <Mark>{t(`exportState.${e.status}`)}</Mark> },
                { label: t('export.size'), show: (e) => (e.status === 'ready' ? format.bytes(e.size_bytes) : '–') },
                {
                  label: t('field.actions'),
                  show: (e) =>
                    e.status === 'ready' && (
                      <Button size="xs" variant="default" onClick={() => fetchIt.mutate(e.id)} loading={fetchIt.isPending && fetchIt.variables === e.id}>
                        {t('export.download')}
                      </Button>
                    ),
                },
              ]}
            />
          )
        }
      </Answer>
    </Section>
  );
}

function Consents() {
  const { t } = useTranslation();
  const consents = useQuery({ queryKey: ['consents'], queryFn: () => data(api.GET('/api/v1/privacy/consents')) });
  const put = useAct((c: { purpose: (typeof purposes)[number]; granted: boolean }) => data(api.PUT('/api/v1/privacy/consents', { body: { ...c, version: wording } })), { refresh: ['consents'] });
  return (
    <Section title={t('consent.title')} text={t('consent.text')}>
      {put.isError && <Refusal error={put.error} />}
      <Answer of={consents}>
        {(c) => (
          <Stack gap="sm">
            {purposes.map((purpose) => (
              <Switch
                key={purpose}
                label={t(`consent.${purpose}`)}
                description={t(`consent.${purpose}Text`)}
                checked={c.current.some((x) => x.purpose === purpose && x.granted)}
                onChange={(e) => put.mutate({ purpose, granted: e.currentTarget.checked })}
                disabled={put.isPending}
              />
            ))}
            {c.history.length > 0 && (
              <Accordion variant="contained" order={3}>
                <Accordion.Item value="history">
                  <Accordion.Control>{t('consent.history')}</Accordion.Control>
                  <Accordion.Panel>
                    <List size="sm">
                      {c.history.map((x) => (
                        <List.Item key={x.id}>
                          {format.time(x.created_at)} · {t(`consent.${x.purpose}` as 'consent.product_news')} · {t(x.granted ? 'consent.given' : 'consent.taken')} ({x.version})
                        </List.Item>
                      ))}
                    </List>
                  </Accordion.Panel>
                </Accordion.Item>
              </Accordion>
            )}
          </Stack>
        )}
      </Answer>
    </Section>
  );
}

function Retention() {
  const { t } = useTranslation();
  const { may } = useSession();
  const tenant = useQuery({ queryKey: ['tenant'], queryFn: () => data(api.GET('/api/v1/tenant')), enabled: may('tenant:read') });
  if (!may('tenant:read')) return null;
  return (
    <Section title={t('retention.title')}>
      <Answer of={tenant}>
        {(d) => (
          <Text size="sm">
            {t('retention.audit', { count: d.settings.audit_retention_days, days: format.number(d.settings.audit_retention_days) })}{' '}
            <Anchor component={Link} to="/app/workspace" underline="always">
              {t('retention.change')}
            </Anchor>
          </Text>
        )}
      </Answer>
    </Section>
  );
}

function Erasures() {
  const { t } = useTranslation();
  const { may } = useSession();
  const [scope, setScope] = useState<Scope | null>(null);
  const erasures = useQuery({ queryKey: ['erasures'], queryFn: () => data(api.GET('/api/v1/privacy/erasures')) });
  const undo = useAct((id: string) => data(api.DELETE('/api/v1/privacy/erasures/{id}', { params: { path: { id } } })), { refresh: ['erasures'], said: t('erasure.undone') });
  return (
    <Section
      title={t('erasure.title')}
      text={t('erasure.text')}
      action={
        <Group gap="xs">
          <Button variant="default" onClick={() => setScope('user')}>
            {t('erasure.mine')}
          </Button>
          {may('privacy:erase') && (
            <Button variant="default" onClick={() => setScope('tenant')}>
              {t('erasure.workspace')}
            </Button>
          )}
        </Group>
      }
    >
      {undo.isError && <Refusal error={undo.error} />}
      <Answer of={erasures}>
        {(page) => (
          <Stack gap="sm">
            {page.data.map((e) => (
              <Card withBorder key={e.id}>
                <Group justify="space-between">
                  <div>
                    <Text fw={600}>
                      {t(`scopeOf.${e.scope}`)} · {t(`erasureState.${e.status}`)}
                    </Text>
                    <Text size="sm" c="dimmed">
                      {e.ended_at ? format.time(e.ended_at) : t('erasure.due', { date: format.time(e.due_at) })}
                      {e.holds.length > 0 && ` · ${e.holds.join('; ')}`}
                    </Text>
                  </div>
                  {(e.status === 'scheduled' || e.status === 'held') && (
                    <Button onClick={() => undo.mutate(e.id)} loading={undo.isPending}>
                      {t('erasure.undo')}
                    </Button>
                  )}
                </Group>
              </Card>
            ))}
          </Stack>
        )}
      </Answer>
      {scope && <Erase scope={scope} close={() => setScope(null)} />}
    </Section>
  );
}

/** What will be gone, and when, before it is asked for. */
function Erase({ scope, close }: { scope: Scope; close: () => void }) {
  const { t } = useTranslation();
  const { me, tenant, may } = useSession();
  const [days, setDays] = useState('14');
  const usage = useQuery({ queryKey: ['usage'], queryFn: () => data(api.GET('/api/v1/usage')), enabled: scope === 'tenant' && may('usage:read') });
  const start = useAct(() => data(api.POST('/api/v1/privacy/erasures', { body: { scope, grace_days: Number(days) } })), { refresh: ['erasures'], said: t('erasure.scheduled'), done: close });
  const level = (name: string) => usage.data?.data.find((m: Schema<'MeterUsage'>) => m.meter === name)?.used ?? 0;
  const name = scope === 'tenant' ? (tenant?.name ?? '') : (me?.user?.email ?? '');
  return (
    <Destroy opened close={close} title={t(scope === 'tenant' ? 'erasure.workspaceTitle' : 'erasure.mineTitle')} name={name} submit={() => start.mutate()} doing={start} label={t('erasure.submit')}>
      {scope === 'tenant' ? (
        <>
          <Text size="sm">{t('erasure.workspaceText')}</Text>
          <SimpleGrid cols={3}>
            {(['datasets', 'dataset_rows', 'seats'] as const).map((meter) => (
              <div key={meter}>
                <Text fw={650}>{format.number(level(meter))}</Text>
                <Text size="sm" c="dimmed">
                  {t(`meter.${meter}`)}
                </Text>
              </div>
            ))}
          </SimpleGrid>
        </>
      ) : (
        <>
          <Text size="sm">{t('erasure.mineText')}</Text>
          <List size="sm">{me?.tenants.map((other) => <List.Item key={other.id}>{other.name}</List.Item>)}</List>
        </>
      )}
      <Select label={t('erasure.grace')} value={days} onChange={(v) => setDays(v ?? '14')} allowDeselect={false} data={['0', '7', '14', '30'].map((d) => ({ value: d, label: d === '0' ? t('erasure.atOnce') : t('keys.days', { count: Number(d) }) }))} />
    </Destroy>
  );
}

/** What people who stand in the workspace's lists ask of it. */
function PersonRequests() {
  const { t } = useTranslation();
  const [picked, setPicked] = useState<Schema<'PersonPart'> | null>(null);
  const asked = useInfiniteQuery({
    queryKey: ['person-requests'],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/privacy/person-requests', { params: { query: { ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  return (
    <Section title={t('asked.title')} text={t('asked.text')}>
      <Answer of={asked}>
        {(pages) => {
          const rows = pages.pages.flatMap((p) => p.data);
          return (
            rows.length > 0 && (
              <Rows
                label={t('asked.title')}
                rows={rows}
                id={(p) => p.id}
                columns={[
                  { label: t('asked.who'), show: (p) => `${p.name} (${p.email})` },
                  { label: t('asked.what'), show: (p) => t(`asked.${p.kind}`) },
                  { label: t('asked.due'), show: (p) => format.date(p.due_at) },
                  { label: t('research.state'), show: (p) => t(`asked.${p.status}`) },
                  {
                    label: t('field.actions'),
                    show: (p) =>
                      p.status === 'open' && (
                        <Button size="xs" variant="default" onClick={() => setPicked(p)} aria-label={t('asked.answerOne', { name: p.name })}>
                          {t('asked.answer')}
                        </Button>
                      ),
                  },
                ]}
              />
            )
          );
        }}
      </Answer>
      <More of={asked} />
      {picked && <AnswerPerson part={picked} close={() => setPicked(null)} />}
    </Section>
  );
}

function AnswerPerson({ part, close }: { part: Schema<'PersonPart'>; close: () => void }) {
  const { t } = useTranslation();
  const [status, setStatus] = useState<'fulfilled' | 'refused'>('fulfilled');
  const [note, setNote] = useState('');
  const answer = useAct(() => data(api.POST('/api/v1/privacy/person-requests/{id}/answer', { params: { path: { id: part.id } }, body: { status, note: note.trim() } })), { refresh: ['person-requests'], said: t('asked.sent'), done: close });
  const lists = new Map<string, number>();
  for (const e of part.entries) lists.set(e.dataset_id, (lists.get(e.dataset_id) ?? 0) + 1);
  return (
    <FormDialog opened close={close} title={t('asked.answerOne', { name: part.name })} submit={() => answer.mutate()} doing={answer} label={t('asked.answer')} ready={note.trim().length >= 10}>
      {part.message && <Text size="sm">{part.message}</Text>}
      {[...lists].map(([id, count]) => (
        <Anchor key={id} component={Link} to="/app/datasets/$id" params={{ id } as never} size="sm" underline="always">
          {t('asked.entries', { count })}
        </Anchor>
      ))}
      <SegmentedControl aria-label={t('research.state')} value={status} onChange={(v) => setStatus(v as typeof status)} data={(['fulfilled', 'refused'] as const).map((s) => ({ value: s, label: t(`asked.${s}`) }))} />
      <Textarea label={t('asked.note')} description={t('asked.noteText')} maxLength={4000} autosize minRows={3} value={note} onChange={(e) => setNote(e.currentTarget.value)} data-autofocus />
    </FormDialog>
  );
}

/** The register of processing: every table that holds something of a person. */
function Register() {
  const { t } = useTranslation();
  const [opened, setOpened] = useState(false);
  const records = useQuery({ queryKey: ['processing'], queryFn: () => data(api.GET('/api/v1/privacy/records')), enabled: opened, staleTime: 600_000 });
  return (
    <Accordion variant="contained" order={2} onChange={(v) => setOpened(v !== null)}>
      <Accordion.Item value="register">
        <Accordion.Control>{t('register.title')}</Accordion.Control>
        <Accordion.Panel>
          {opened && (
            <Answer of={records}>
              {(page) => (
                <Rows
                  label={t('register.title')}
                  rows={page.data}
                  id={(r) => r.table}
                  columns={[
                    { label: t('register.table'), show: (r) => <Code>{r.table}</Code> },
                    { label: t('register.purpose'), show: (r) => r.purpose },
                    { label: t('register.basis'), show: (r) => r.basis },
                    { label: t('register.kept'), show: (r) => r.kept },
                  ]}
                />
              )}
            </Answer>
          )}
        </Accordion.Panel>
      </Accordion.Item>
    </Accordion>
  );
}
