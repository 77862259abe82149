import { Alert, Anchor, Badge, Blockquote, Button, Card, Group, Menu, Progress, Stack, Text, Title } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useParams } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, download, follow, type Schema, type ServerEvent } from '../api';
import { format } from '../i18n';
import { Page } from '../parts/page';
import { Answer, Refusal } from '../parts/states';

const ends = ['succeeded', 'failed', 'cancelled'];

/** One investigation: what happens while it runs, and what it found. */
export function Run() {
  const { id } = useParams({ from: '/app/research/$id' });
  const run = useQuery({ queryKey: ['run', id], queryFn: () => data(api.GET('/api/v1/runs/{id}', { params: { path: { id } } })) });
  return <Answer of={run}>{(r) => <Shown run={r} />}</Answer>;
}

function Shown({ run }: { run: Schema<'Run'> }) {
  const { t, i18n } = useTranslation();
  const live = !ends.includes(run.status);
  const cost = new Intl.NumberFormat(i18n.language, { style: 'currency', currency: 'USD' }).format(run.usage.cost_usd);
  return (
    <Page title={run.title} text={t(`kind.${run.kind}`)} action={<Actions run={run} live={live} />}>
      {run.sandbox && <Alert color="orange" title={t('run.sandbox')} />}
      {run.error_message && <Alert color="red" title={run.error_message} />}
      <Group gap="lg">
        <Badge variant="outline" size="lg" c="var(--mantine-color-text)">
          {t(`state.${run.status}`)}
        </Badge>
        <Text size="sm">{t('run.cost', { count: run.usage.calls, calls: format.number(run.usage.calls), cost })}</Text>
      </Group>
      {run.result && <Findings result={run.result} />}
      <Log run={run} live={live} />
    </Page>
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
              <Menu.Item key={kind} onClick={() => void download(`/api/v1/runs/${run.id}/export?format=${kind}`, `${run.title}.${{ ftm: 'jsonl', stix: 'json' }[kind as string] ?? kind}`)}>
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
function Log({ run, live }: { run: Schema<'Run'>; live: boolean }) {
  const { t } = useTranslation();
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
  const stage = events.findLast((e) => e.event === 'stage')?.data as { done?: number; total?: number } | undefined;
  return (
    <Card withBorder component="section">
      <Title order={2} size="h4" mb="sm">
        {t('run.log')}
      </Title>
      {live && <Progress mb="sm" animated value={stage?.total ? (100 * (stage.done ?? 0)) / stage.total : 5} aria-label={t('upload.progress')} />}
      <Stack gap={2} mah={360} style={{ overflowY: 'auto' }} tabIndex={0} role="log" aria-label={t('run.log')}>
        {events.map((e) => (
          <Group key={e.id} gap="sm" wrap="nowrap" align="flex-start">
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
  const words = ['title', 'query', 'engine', 'url', 'target', 'type', 'stage', 'status', 'detail', 'code', 'message', 'summary'];
  return words
    .map((w) => body[w])
    .filter((v) => typeof v === 'string' && v)
    .join(' · ');
}

const verdicts: Record<string, string> = { direct: 'red', indirect: 'orange', significant_mention: 'yellow', unknown: 'gray', no_evidence: 'green' };

function Findings({ result }: { result: Schema<'Result'> }) {
  const { t } = useTranslation();
  return (
    <Stack gap="md" component="section">
      <Title order={2} size="h3">
        {t('run.findings')}
      </Title>
      {result.relations.map((r) => (
        <Card withBorder key={`${r.source}→${r.target}`}>
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
          <Text size="sm" mb="xs">
            {r.summary}
          </Text>
          {r.evidence.map((e, i) => (
            <Proof key={i} of={e} />
          ))}
          <Text size="sm" c="dimmed">
            {t('run.searched', { searches: format.number(r.searches), pages: format.number(r.pages_read) })}
          </Text>
        </Card>
      ))}
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
            <Badge variant="outline" c="var(--mantine-color-text)">
              {t(`severity.${s.severity}`)}
            </Badge>
          </Group>
          {s.evidence.map((e, i) => (
            <Proof key={i} of={e} />
          ))}
        </Card>
      ))}
    </Stack>
  );
}

/** A quote, where it stands, and whether it was found there. */
function Proof({ of: e }: { of: Schema<'Evidence'> }) {
  const { t } = useTranslation();
  return (
    <Blockquote p="sm" my="xs" color={e.verified ? 'green' : 'gray'}>
      <Text size="sm" fs={e.verified ? undefined : 'italic'}>
        “{e.quote}”
      </Text>
      <Group gap="xs" mt={4}>
        <Badge variant="default">{t(e.verified ? 'run.verified' : 'run.unverified')}</Badge>
        <Anchor href={e.url} target="_blank" rel="noreferrer noopener nofollow" size="sm">
          {e.title || e.url}
        </Anchor>
        {e.published_at && (
          <Text size="sm" c="dimmed">
            {e.published_at}
          </Text>
        )}
        <Text size="sm" c="dimmed">
          {t('run.credibility', { share: format.percent(e.credibility) })}
        </Text>
      </Group>
    </Blockquote>
  );
}
