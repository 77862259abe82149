import { Button, Card, Group, Select, SimpleGrid, Stack, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Reasoned } from '../parts/reason';
import { More, Rows } from '../parts/rows';
import { Answer } from '../parts/states';

type Job = Schema<'Job'>;
const states = ['waiting', 'scheduled', 'running', 'retrying', 'completed', 'cancelled', 'lost'] as const;
const counted = ['waiting', 'scheduled', 'running', 'retrying', 'cancelled', 'lost'] as const;
const failed: Job['state'][] = ['retrying', 'cancelled', 'lost'];
const colours: Partial<Record<Job['state'], string>> = { running: 'blue', completed: 'green', retrying: 'orange', cancelled: 'red', lost: 'red' };

/** What works behind the pages: how much of it waits, what failed and why. */
export function Jobs() {
  const { t } = useTranslation();
  const lanes = useQuery({ queryKey: ['admin', 'lanes'], queryFn: () => data(api.GET('/api/v1/admin/jobs/lanes')), refetchInterval: 30_000 });
  return (
    <Page title={t('admin.jobs')} text={t('admin.jobsText')}>
      <Answer of={lanes}>
        {(page) => (
          <>
            <SimpleGrid cols={{ base: 1, sm: 2 }}>
              {page.data.map((lane) => (
                <LaneCard key={lane.lane} lane={lane} />
              ))}
            </SimpleGrid>
            <List kinds={page.data.flatMap((lane) => lane.kinds.map((k) => k.kind)).sort()} lanes={page.data.map((lane) => lane.lane)} />
          </>
        )}
      </Answer>
    </Page>
  );
}

const useLaneName = () => {
  const { t } = useTranslation();
  return (lane: string) => t(`lane.${lane}` as 'lane.default', { defaultValue: lane });
};

function LaneCard({ lane }: { lane: Schema<'Lane'> }) {
  const { t } = useTranslation();
  const name = useLaneName();
  const told = (of: Schema<'KindCounts'>) => counted.filter((s) => of[s] > 0).map((s) => `${t(`job.${s}`)} ${format.number(of[s])}`);
  const busy = lane.kinds.filter((k) => told(k).length > 0);
  return (
    <Card withBorder>
      <Group justify="space-between">
        <Text fw={600}>{name(lane.lane)}</Text>
        <Text size="sm" c="dimmed">
          {t('job.workers', { count: lane.workers })}
        </Text>
      </Group>
      <Text size="sm">
        {t('job.standing', { waiting: format.number(lane.waiting), running: format.number(lane.running), completed: format.number(lane.completed) })}
        {lane.oldest_seconds > 0 && ` · ${t('job.oldest', { span: format.span(lane.oldest_seconds * 1000) })}`}
      </Text>
      {busy.map((k) => (
        <Text size="sm" key={k.kind}>
          {k.kind}: {told(k).join(' · ')}
        </Text>
      ))}
    </Card>
  );
}

function List({ kinds, lanes }: { kinds: string[]; lanes: string[] }) {
  const { t } = useTranslation();
  const lane = useLaneName();
  const [state, setState] = useState<Job['state'] | null>('lost');
  const [kind, setKind] = useState<string | null>(null);
  const [inLane, setInLane] = useState<string | null>(null);
  const [tenant, setTenant] = useState('');
  const [tenant_id] = useDebouncedValue(tenant.trim(), 250);
  const [asked, setAsked] = useState<{ job: Job; retry: boolean } | null>(null);
  const jobs = useInfiniteQuery({
    queryKey: ['admin', 'jobs', state, kind, inLane, tenant_id],
    initialPageParam: '',
    queryFn: ({ pageParam }) =>
      data(
        api.GET('/api/v1/admin/jobs', {
          params: { query: { limit: 50, ...(state ? { state } : {}), ...(kind ? { kind } : {}), ...(inLane ? { lane: inLane } : {}), ...(tenant_id ? { tenant_id } : {}), ...(pageParam ? { cursor: pageParam } : {}) } },
        }),
      ),
    getNextPageParam: (last) => last.next_cursor,
  });
  const act = useAct(
    (reason: string) => {
      const at = { params: { path: { id: asked?.job.id ?? '' } }, body: { reason } };
      return data(asked?.retry ? api.POST('/api/v1/admin/jobs/{id}/retry', at) : api.POST('/api/v1/admin/jobs/{id}/discard', at));
    },
    { refresh: ['admin'], done: () => setAsked(null) },
  );
  return (
    <Section title={t('job.list')} text={t('job.listText')}>
      <SimpleGrid cols={{ base: 1, sm: 2, lg: 4 }}>
        <Select label={t('research.state')} placeholder={t('webhooks.all')} clearable value={state} onChange={(v) => setState(v as typeof state)} data={states.map((s) => ({ value: s, label: t(`job.${s}`) }))} />
        <Select label={t('job.kind')} placeholder={t('webhooks.all')} clearable searchable value={kind} onChange={setKind} data={kinds} />
        <Select label={t('job.lane')} placeholder={t('webhooks.all')} clearable value={inLane} onChange={setInLane} data={lanes.map((l) => ({ value: l, label: lane(l) }))} />
        <TextInput label={t('admin.tenant')} placeholder="ten_" value={tenant} onChange={(e) => setTenant(e.currentTarget.value)} />
      </SimpleGrid>
      <Answer of={jobs}>
        {(pages) =>
          pages.pages[0]?.data.length === 0 ? (
            <Text c="dimmed">{t('job.none')}</Text>
          ) : (
            <Rows
              label={t('job.list')}
              rows={pages.pages.flatMap((p) => p.data)}
              id={(j) => j.id}
              columns={[
                {
                  label: t('job.kind'),
                  show: (j) => (
                    <Stack gap={0}>
                      <Text size="sm" fw={550}>
                        {j.kind}
                      </Text>
                      <Text size="sm" c="dimmed">
                        {j.id} · {lane(j.lane)}
                      </Text>
                    </Stack>
                  ),
                },
                { label: t('admin.tenant'), show: (j) => j.tenant_id || t('job.platform') },
                { label: t('research.state'), show: (j) => <Mark color={colours[j.state]}>{t(`job.${j.state}`)}</Mark> },
                { label: t('audit.when'), show: (j) => format.time(j.ended_at ?? j.started_at ?? j.created_at) },
                { label: t('job.why'), show: (j) => <Failures job={j} /> },
                {
                  label: t('field.actions'),
                  show: (j) =>
                    failed.includes(j.state) && (
                      <Group gap="xs">
                        <Button size="xs" variant="default" onClick={() => setAsked({ job: j, retry: true })} aria-label={t('job.retryOne', { id: j.id })}>
                          {t('action.retry')}
                        </Button>
                        <Button size="xs" variant="default" onClick={() => setAsked({ job: j, retry: false })} aria-label={t('job.discardOne', { id: j.id })}>
                          {t('job.discard')}
                        </Button>
                      </Group>
                    ),
                },
              ]}
            />
          )
        }
      </Answer>
      <More of={jobs} />
      {asked && (
        <Reasoned title={t(asked.retry ? 'job.retryOne' : 'job.discardOne', { id: asked.job.id })} close={() => setAsked(null)} submit={act.mutate} doing={act} label={t(asked.retry ? 'action.retry' : 'job.discard')} danger={!asked.retry}>
          <Text size="sm">{t(asked.retry ? 'job.retryText' : 'job.discardText')}</Text>
        </Reasoned>
      )}
    </Section>
  );
}

/** Why the last attempt failed, and how many did. */
function Failures({ job }: { job: Job }) {
  const { t } = useTranslation();
  const last = job.failures[0];
  if (!last) return '–';
  return (
    <Stack gap={0}>
      <Text size="sm">{last.reason}</Text>
      <Text size="sm" c="dimmed">
        {t('job.attempts', { done: format.number(job.attempts), most: format.number(job.max_attempts) })}
        {job.state === 'retrying' && ` · ${t('job.next', { date: format.time(job.scheduled_at) })}`}
      </Text>
    </Stack>
  );
}
