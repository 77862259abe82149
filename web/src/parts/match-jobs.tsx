// A whole file of names, matched in the background: it goes on when the page is
// left, and what was done can be read in every state.
import { Button, Card, Group, Progress, Stack, Text } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, follow, Problem, send, upload, type Schema } from '../api';
import { format } from '../i18n';
import { fetchFile, useAct } from './act';
import { Destroy } from './dialog';
import { DropFile } from './drop';
import { Mark } from './mark';
import { Results, type Answered, type View } from './results';
import { Answer, Refusal } from './states';

type Job = Schema<'MatchJob'>;
const ends = ['succeeded', 'failed', 'cancelled'];
const refresh = ['match-jobs'];
const most = 10_000; // rows that a page reads; more are for a spreadsheet

interface Line {
  query: Schema<'Query'>;
  matches?: Schema<'MatchResult'>[];
  error?: Schema<'ItemError'>;
}

/** The answers of a job, in the order of its file. */
async function answersOf(id: string): Promise<Answered[]> {
  const res = await send(new Request(`/api/v1/match-jobs/${id}/result?format=jsonl`));
  if (!res.ok) throw new Problem(await res.json().catch(() => ({})), res.status);
  return (await res.text())
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line)
    .map(({ query, matches, error }) => ({ name: query.name, country: query.country ?? '', matches: matches ?? [], error }));
}

export function Files({ view }: { view: View }) {
  const { t } = useTranslation();
  const [share, setShare] = useState(0);
  const [open, setOpen] = useState<Job | null>(null);
  const jobs = useQuery({ queryKey: ['match-jobs'], queryFn: () => data(api.GET('/api/v1/match-jobs', { params: { query: { limit: 50 } } })) });
  const start = useAct((file: File) => upload<Job>(`/api/v1/match-jobs?options=${encodeURIComponent(JSON.stringify({ ...view, limit: 5, explain: true }))}`, file, setShare), { refresh, done: () => setShare(0) });
  if (open) return <Opened job={open} view={view} back={() => setOpen(null)} />;
  return (
    <Stack>
      <DropFile text={t('matchJob.text')} take={start.mutate} doing={start} share={share} />
      <Answer of={jobs}>
        {(page) =>
          page.data.length === 0 ? (
            <Text c="dimmed">{t('matchJob.none')}</Text>
          ) : (
            <>
              {page.data.map((job) => (
                <JobCard key={job.id} job={job} open={setOpen} />
              ))}
            </>
          )
        }
      </Answer>
    </Stack>
  );
}

function JobCard({ job, open }: { job: Job; open: (job: Job) => void }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const [live, setLive] = useState<Partial<Job>>({});
  const [asked, setAsked] = useState(false);
  const running = !ends.includes(job.status);
  useEffect(() => {
    if (!running) return;
    const stop = new AbortController();
    follow(`/api/v1/match-jobs/${job.id}/events`, ends, (e) => setLive(e.data as Partial<Job>), stop.signal)
      .catch(() => undefined) // the list, read again, tells how it stands
      .finally(() => {
        if (!stop.signal.aborted) void cache.invalidateQueries({ queryKey: ['match-jobs'] });
      });
    return () => stop.abort();
  }, [job.id, running, cache]);
  const now = running ? { ...job, ...live } : job;
  const at = { params: { path: { id: job.id } } };
  const act = useAct<'cancel' | 'resume' | 'delete', unknown>(
    (what) => data<unknown>(what === 'cancel' ? api.POST('/api/v1/match-jobs/{id}/cancel', at) : what === 'resume' ? api.POST('/api/v1/match-jobs/{id}/resume', at) : api.DELETE('/api/v1/match-jobs/{id}', at)),
    { refresh, done: () => setLive({}) },
  );
  const name = job.filename || t('matchJob.list');
  const does = (what: 'cancel' | 'resume' | 'delete') => (
    <Button size="xs" variant="default" onClick={() => (what === 'delete' ? setAsked(true) : act.mutate(what))} loading={act.isPending && act.variables === what} aria-label={t(`matchJob.${what}One`, { name })}>
      {t(what === 'resume' ? 'matchJob.resume' : `action.${what}`)}
    </Button>
  );
  return (
    <Card withBorder>
      <Group justify="space-between">
        <div>
          <Text fw={600}>{name}</Text>
          <Text size="sm" c="dimmed">
            {format.time(now.created_at)} · {t('matchJob.counts', { count: now.rows_read, rows: format.number(now.rows_read), matched: format.number(now.rows_matched), rejected: format.number(now.rows_rejected) })}
          </Text>
        </div>
        <Group gap="xs">
          <Mark color={now.status === 'failed' ? 'red' : now.status === 'succeeded' ? 'green' : 'gray'}>{t(`state.${now.status}`)}</Mark>
          {now.rows_read > 0 && !running && now.rows_read <= most && (
            <Button size="xs" onClick={() => open(job)} aria-label={t('matchJob.openOne', { name })}>
              {t('matchJob.open')}
            </Button>
          )}
          {now.rows_read > 0 && (
            <Button size="xs" variant="default" onClick={() => fetchFile(`/api/v1/match-jobs/${job.id}/result?format=csv`, 'matches.csv')} aria-label={t('matchJob.exportOne', { name })}>
              {t('action.export')}
            </Button>
          )}
          {running ? does('cancel') : does('delete')}
          {(now.status === 'failed' || now.status === 'cancelled') && does('resume')}
        </Group>
      </Group>
      {running && <Progress mt="sm" animated value={now.rows_total > 0 ? (now.rows_read / now.rows_total) * 100 : now.size_bytes ? ((now.bytes_read ?? 0) / now.size_bytes) * 100 : 0} aria-label={t('upload.progress')} />}
      {now.error_message && (
        <Text mt="xs" size="sm" c="red">
          {now.error_message}
        </Text>
      )}
      {act.isError && !asked && <Refusal error={act.error} />}
      <Destroy opened={asked} close={() => setAsked(false)} title={t('matchJob.deleteOne', { name })} name={name} submit={() => act.mutate('delete')} doing={act} label={t('action.delete')}>
        <Text size="sm">{t('matchJob.deleteText')}</Text>
      </Destroy>
    </Card>
  );
}

function Opened({ job, view, back }: { job: Job; view: View; back: () => void }) {
  const { t } = useTranslation();
  const answers = useQuery({ queryKey: ['match-job', job.id, job.rows_read], queryFn: () => answersOf(job.id), staleTime: Infinity });
  const asked: View = { dataset_ids: job.dataset_ids ?? [], threshold: job.threshold ?? view.threshold, weights: job.weights ?? view.weights };
  return (
    <Stack>
      <Group>
        <Button size="xs" variant="default" onClick={back}>
          {t('matchJob.back')}
        </Button>
        <Text fw={600}>{job.filename || t('matchJob.list')}</Text>
      </Group>
      <Answer of={answers}>{(a) => <Results answers={a} asked={asked} view={view} />}</Answer>
    </Stack>
  );
}
