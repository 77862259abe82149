import { Alert, Anchor, Badge, Button, Card, Group, Menu, Progress, SegmentedControl, Stack, Text, TextInput, Title } from '@mantine/core';
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useParams } from '@tanstack/react-router';
import { useDeferredValue, useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, follow, type Schema, type ServerEvent } from '../api';
import { format } from '../i18n';
import { fetchFile } from '../parts/act';
import { Proof } from '../parts/evidence';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Relations } from '../parts/relations';
import { More, Rows } from '../parts/rows';
import { Answer, Empty, Refusal } from '../parts/states';

const ends = ['succeeded', 'failed', 'cancelled'];

/** One investigation: what happens while it runs, and what it found. */
export function Run() {
  const { t } = useTranslation();
  const { id } = useParams({ from: '/app/research/$id' });
  const run = useQuery({ queryKey: ['run', id], queryFn: () => data(api.GET('/api/v1/runs/{id}', { params: { path: { id } } })) });
  return <Answer of={run} title={t('nav.research')}>{(r) => <Shown run={r} />}</Answer>;
}

function Shown({ run }: { run: Schema<'Run'> }) {
  const { t } = useTranslation();
  const live = !ends.includes(run.status);
  const events = useEvents(run, live);
  // A run under way has told each call's cost; one that has ended, their sum.
  const spent = events.flatMap((e) => (e.event === 'usage' ? [(e.data as { spent: Schema<'RunUsage'> }).spent] : []));
  const calls = live ? spent.reduce((sum, u) => sum + u.calls, 0) : run.usage.calls;
  const cost = live ? spent.reduce((sum, u) => sum + u.cost_usd, 0) : run.usage.cost_usd;
  return (
    <Page title={run.title} text={t(`kind.${run.kind}`)} action={<Actions run={run} live={live} />}>
      {run.sandbox && <Alert color="orange" title={t('run.sandbox')} />}
      {run.partial && <Alert color="orange" title={t('run.partial')} />}
      {run.error_message && <Alert color="red" title={run.error_message} />}
      <Group gap="lg">
        <Badge variant="outline" size="lg" c="var(--mantine-color-text)">
          {t(`state.${run.status}`)}
        </Badge>
        <Text size="sm">{t('run.cost', { count: calls, calls: format.number(calls), cost: format.usd(cost) })}</Text>
        {run.started_at && <Text size="sm">{t('run.took', { time: format.span(Date.parse(run.ended_at ?? new Date().toISOString()) - Date.parse(run.started_at)) })}</Text>}
        {run.previous_id && (
          <Anchor component={Link} to="/app/research/$id" params={{ id: run.previous_id } as never} size="sm" underline="always">
            {t('run.previous')}
          </Anchor>
        )}
      </Group>
      {live && <Log events={events} live />}
      {run.previous_id && run.result && <Compared run={run} />}
      {run.result && run.result.entities.length > 0 && <Picture run={run} result={run.result} />}
      {run.kind === 'dataset' ? <Checked run={run} live={live} /> : run.result && <Findings result={run.result} run={run.id} />}
      {!live && <Log events={events} live={false} />}
    </Page>
  );
}

function Picture({ run, result }: { run: Schema<'Run'>; result: Schema<'Result'> }) {
  const { t } = useTranslation();
  const graph = useQuery({ queryKey: ['graph', run.id], queryFn: () => data(api.GET('/api/v1/runs/{id}/graph', { params: { path: { id: run.id } } })), staleTime: Infinity });
  return (
    <Section title={t('graph.title')}>
      <Answer of={graph}>{(g) => <Relations run={run.id} graph={g} edges={result.edges} />}</Answer>
    </Section>
  );
}

/** What differs from the run that this one repeats. */
function Compared({ run }: { run: Schema<'Run'> }) {
  const { t } = useTranslation();
  const changes = useQuery({ queryKey: ['changes', run.id], queryFn: () => data(api.GET('/api/v1/runs/{id}/changes', { params: { path: { id: run.id } } })), staleTime: Infinity, retry: false });
  const word = (v: string) => (v in verdicts ? t(`verdict.${v}` as 'verdict.direct') : v.length === 64 ? v.slice(0, 8) : v || '–');
  return (
    <Section title={t('compare.title')}>
      <Answer of={changes}>
        {(c) => {
          const all = [...c.verdicts.map((x) => ({ ...x, kind: 'verdict' as const })), ...c.edges.map((x) => ({ ...x, kind: 'edge' as const })), ...c.sources.map((x) => ({ ...x, kind: 'source' as const }))];
          if (all.length === 0) return <Text>{t('compare.same')}</Text>;
          return (
            <Rows
              label={t('compare.title')}
              rows={all}
              id={(x) => `${x.kind} ${x.what}`}
              columns={[
                { label: t('compare.what'), show: (x) => x.what },
                { label: t('compare.kind'), show: (x) => t(`compare.${x.kind}`) },
                { label: t('compare.before'), show: (x) => word(x.before) },
                { label: t('compare.after'), show: (x) => word(x.after) },
              ]}
            />
          );
        }}
      </Answer>
    </Section>
  );
}

function Actions({ run, live }: { run: Schema<'Run'>; live: boolean }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const navigate = useNavigate();
  const path = { path: { id: run.id } };
  const act = useMutation({
    mutationFn: async (what: 'cancel' | 'resume' | 'repeat') => {
      if (what === 'cancel') await data(api.DELETE('/api/v1/runs/{id}', { params: path }));
      else if (what === 'resume') await data(api.POST('/api/v1/runs/{id}/resume', { params: path }));
      else {
        const again = await data(api.POST('/api/v1/runs/{id}/repeat', { params: path }));
        await navigate({ to: '/app/research/$id', params: { id: again.id } });
      }
    },
    onSettled: () => cache.invalidateQueries({ queryKey: ['run'] }),
  });
  return (
    <Group gap="xs">
      {act.isError && <Refusal error={act.error} />}
      {live ? (
        <Button variant="default" onClick={() => act.mutate('cancel')}>
          {t('action.cancel')}
        </Button>
      ) : (
        <>
          {run.status === 'failed' && (
            <Button variant="default" onClick={() => act.mutate('resume')}>
              {t('run.resume')}
            </Button>
          )}
          <Button variant="default" onClick={() => act.mutate('repeat')}>
            {t('run.again')}
          </Button>
        </>
      )}
      {run.result && (
        <Menu>
          <Menu.Target>
            <Button variant="default">{t('action.export')}</Button>
          </Menu.Target>
          <Menu.Dropdown>
            {(['pdf', 'json', 'csv', 'graphml', 'ftm', 'stix'] as const).map((kind) => (
              <Menu.Item key={kind} onClick={() => fetchFile(`/api/v1/runs/${run.id}/export?format=${kind}`, `${run.title}.${{ ftm: 'jsonl', stix: 'json' }[kind as string] ?? kind}`)}>
                {kind.toUpperCase()}
              </Menu.Item>
            ))}
          </Menu.Dropdown>
        </Menu>
      )}
    </Group>
  );
}

/** The run's events as they come; a reload or a lost connection loses none. */
function useEvents(run: Schema<'Run'>, live: boolean) {
  const cache = useQueryClient();
  const [events, setEvents] = useState<ServerEvent[]>([]);
  useEffect(() => {
    const stop = new AbortController();
    const seen = new Map<string, ServerEvent>(); // by number: a second delivery shows once
    follow(
      `/api/v1/runs/${run.id}/events`,
      ends,
      (e) => {
        seen.set(e.id, e);
        setEvents([...seen.values()]);
      },
      stop.signal,
    )
      .catch(() => undefined)
      .finally(() => {
        if (!stop.signal.aborted && live) void cache.invalidateQueries({ queryKey: ['run', run.id] });
      });
    return () => stop.abort();
  }, [run.id, live, cache]);
  return events;
}

function Log({ events, live }: { events: ServerEvent[]; live: boolean }) {
  const { t } = useTranslation();
  const stage = events.findLast((e) => e.event === 'stage')?.data as { done?: number; total?: number } | undefined;
  return (
    <Card withBorder component="section">
      <Title order={2} size="h4" mb="sm">
        {t('run.log')}
      </Title>
      {live && <Progress mb="sm" animated value={stage?.total ? (100 * (stage.done ?? 0)) / stage.total : 5} aria-label={t('upload.progress')} />}
      <Stack gap={2} mah={360} style={{ overflowY: 'auto' }} tabIndex={0} role="log" aria-label={t('run.log')}>
        {events.map((e) => (
          <Group key={e.id} gap="sm" wrap="nowrap" align="flex-start" data-event={e.id}>
            <Text size="sm" c="dimmed" w={90} style={{ flexShrink: 0 }}>
              {t(`event.${e.event}` as 'event.stage', { defaultValue: e.event })}
            </Text>
            <Text size="sm">{line(e.data as Record<string, unknown>)}</Text>
          </Group>
        ))}
      </Stack>
    </Card>
  );
}

/** What an event is about, in its own words. */
function line(body: Record<string, unknown>) {
  if (body.spent) return `${String(body.provider)} · ${format.usd((body.spent as Schema<'RunUsage'>).cost_usd)}`;
  const words = ['title', 'query', 'engine', 'url', 'target', 'type', 'stage', 'status', 'detail', 'code', 'message', 'summary'];
  return words
    .map((w) => body[w])
    .filter((v) => typeof v === 'string' && v)
    .join(' · ');
}

const verdicts: Record<string, string> = { direct: 'red', indirect: 'orange', significant_mention: 'yellow', unknown: 'gray', no_evidence: 'green' };

function Findings({ result, run }: { result: Schema<'Result'>; run: string }) {
  const { t } = useTranslation();
  const [verdict, setVerdict] = useState('');
  const [text, setText] = useState('');
  const sought = useDeferredValue(text.trim().toLowerCase());
  const relations = result.relations.filter((r) => (!verdict || r.type === verdict) && (!sought || `${r.target} ${r.summary}`.toLowerCase().includes(sought)));
  return (
    <Section title={t('run.findings')}>
      {result.relations.length > 1 && (
        <Group align="flex-end">
          <SegmentedControl
            aria-label={t('graph.verdicts')}
            className="wraps"
            value={verdict}
            onChange={setVerdict}
            data={[{ value: '', label: t('webhooks.all') }, ...Object.keys(verdicts).filter((v) => result.relations.some((r) => r.type === v)).map((v) => ({ value: v, label: t(`verdict.${v}` as 'verdict.direct') }))]}
          />
          <TextInput aria-label={t('graph.search')} placeholder={t('graph.search')} value={text} onChange={(e) => setText(e.currentTarget.value)} />
        </Group>
      )}
      {relations.map((r) => (
        <Finding key={`${r.source}→${r.target}`} of={r} run={run} />
      ))}
      {result.relations.length > 0 && relations.length === 0 && <Text c="dimmed">{t('graph.none')}</Text>}
      {result.profile && (
        <Card withBorder>
          <Text fw={600} mb="xs">
            {t('run.profile', { completeness: t(`completeness.${result.profile.completeness}`) })}
          </Text>
          {Object.entries(result.profile.fields).map(([name, facts]) => (
            <Text size="sm" key={name}>
              <b>{name.replaceAll('_', ' ')}</b>: {(facts ?? []).map((f) => f.value).join('; ')}
            </Text>
          ))}
        </Card>
      )}
      {result.signals?.map((s) => (
        <Card withBorder key={s.keyword}>
          <Group justify="space-between" mb="xs">
            <Text fw={600}>{s.keyword}</Text>
            <Mark>{t(`severity.${s.severity}`)}</Mark>
          </Group>
          {s.narrative && <Text size="sm">{s.narrative}</Text>}
          {s.evidence.map((e, i) => (
            <Proof key={i} of={e} run={run} />
          ))}
        </Card>
      ))}
      {result.warnings.length > 0 && (
        <Alert color="orange" title={t('run.warnings')}>
          {result.warnings.map((w, i) => (
            <Text size="sm" key={i}>
              {[w.about, w.detail].filter(Boolean).join(': ')}
            </Text>
          ))}
        </Alert>
      )}
    </Section>
  );
}

function Finding({ of: r, run }: { of: Schema<'Relation'>; run: string }) {
  const { t } = useTranslation();
  return (
    <Card withBorder>
      <Group justify="space-between" mb="xs">
        <Text fw={600}>
          {r.source} → {r.target}
        </Text>
        <Group gap="xs">
          <Badge variant="outline" color={verdicts[r.type]} c="var(--mantine-color-text)">
            {t(`verdict.${r.type}`)}
          </Badge>
          <Text size="sm" ff="monospace">
            {format.score(r.confidence)}
          </Text>
        </Group>
      </Group>
      {r.error && <Alert color="red" title={r.error.detail} />}
      <Text size="sm" mb="xs">
        {r.summary}
      </Text>
      {r.intermediaries.length > 0 && <Text size="sm">{t('run.through', { names: r.intermediaries.join(', ') })}</Text>}
      {r.evidence.map((e, i) => (
        <Proof key={i} of={e} run={run} />
      ))}
      <Text size="sm" c="dimmed">
        {t('run.searched', { searches: format.number(r.searches), pages: format.number(r.pages_read) })}
      </Text>
    </Card>
  );
}

const outcomes = ['direct', 'indirect', 'significant_mention', 'unknown', 'no_evidence', 'error'] as const;

/** A whole list, each organisation as it is done. */
function Checked({ run, live }: { run: Schema<'Run'>; live: boolean }) {
  const { t } = useTranslation();
  const [verdict, setVerdict] = useState<'' | (typeof outcomes)[number]>('');
  const found = useInfiniteQuery({
    queryKey: ['findings', run.id, verdict, live],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/runs/{id}/findings', { params: { path: { id: run.id }, query: { limit: 50, ...(verdict ? { verdict } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
    refetchInterval: live ? 3_000 : false,
  });
  return (
    <Section title={t('run.findings')} text={run.total > 0 ? t('run.done', { done: format.number(run.done), total: format.number(run.total) }) : undefined}>
      <SegmentedControl
        aria-label={t('graph.verdicts')}
        className="wraps"
        value={verdict}
        onChange={(v) => setVerdict(v as typeof verdict)}
        data={[{ value: '', label: t('webhooks.all') }, ...outcomes.map((v) => ({ value: v, label: v === 'error' ? t('state.failed') : t(`verdict.${v}`) }))]}
      />
      <Answer of={found}>
        {(pages) => {
          const rows = pages.pages.flatMap((p) => p.data);
          return rows.length === 0 ? <Empty title={t('graph.none')} text={t('run.noneYet')} /> : rows.map((r) => <Finding key={r.entry_id ?? r.target} of={r} run={run.id} />);
        }}
      </Answer>
      <More of={found} />
    </Section>
  );
}
