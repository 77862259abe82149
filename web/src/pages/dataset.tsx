import { Alert, Badge, Button, Card, Group, Loader, Menu, Modal, Progress, SegmentedControl, SimpleGrid, Stack, Table, Tabs, Text, TextInput, Title } from '@mantine/core';
import { useDebouncedValue, useDisclosure } from '@mantine/hooks';
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useParams } from '@tanstack/react-router';
import { lazy, memo, Suspense, useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, follow, upload, type Schema } from '../api';
import { format } from '../i18n';
import { fetchFile } from '../parts/act';
import { DropFile } from '../parts/drop';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { Answer, Empty, Refusal } from '../parts/states';
import { useSession } from '../session';

const World = lazy(() => import('../parts/world').then((m) => ({ default: m.World })));

type Import = Schema<'Import'>;
const ends = ['succeeded', 'failed', 'cancelled'];

export function Dataset() {
  const { t } = useTranslation();
  const { id } = useParams({ from: '/app/datasets/$id' });
  const { may } = useSession();
  const set = useQuery({ queryKey: ['dataset', id], queryFn: () => data(api.GET('/api/v1/datasets/{id}', { params: { path: { id } } })) });
  return (
    <Answer of={set} title={t('nav.datasets')}>
      {(d) => (
        <Page
          title={d.name}
          text={d.description || t('dataset.rows', { count: d.rows, rows: format.number(d.rows) })}
          action={
            <Group gap="xs">
              {d.rows > 0 && may('match:run') && (
                <Button component={Link} to="/app/match" search={{ dataset: id } as never}>
                  {t('dataset.match')}
                </Button>
              )}
              {d.rows > 0 && <Export dataset={d} />}
              {may('dataset:delete') && <Delete dataset={d} />}
            </Group>
          }
        >
          <Tabs defaultValue={d.rows > 0 ? 'entries' : 'imports'} keepMounted={false}>
            <Tabs.List mb="md">
              <Tabs.Tab value="entries">{t('dataset.entries')}</Tabs.Tab>
              <Tabs.Tab value="imports">{t('dataset.imports')}</Tabs.Tab>
              <Tabs.Tab value="stats">{t('dataset.stats')}</Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="entries">
              <Entries id={id} />
            </Tabs.Panel>
            <Tabs.Panel value="imports">
              <Imports id={id} follows={Boolean(d.catalog_slug)} />
            </Tabs.Panel>
            <Tabs.Panel value="stats">
              <Stats id={id} />
            </Tabs.Panel>
          </Tabs>
        </Page>
      )}
    </Answer>
  );
}

function Export({ dataset }: { dataset: Schema<'Dataset'> }) {
  const { t } = useTranslation();
  return (
    <Menu>
      <Menu.Target>
        <Button variant="default">{t('action.export')}</Button>
      </Menu.Target>
      <Menu.Dropdown>
        {(['csv', 'jsonl', 'ftm'] as const).map((kind) => (
          <Menu.Item key={kind} onClick={() => fetchFile(`/api/v1/datasets/${dataset.id}/export?format=${kind}`, `${dataset.name}.${kind === 'csv' ? 'csv' : 'jsonl'}`)}>
            {t(`export.${kind}`)}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

function Delete({ dataset }: { dataset: Schema<'Dataset'> }) {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const cache = useQueryClient();
  const [opened, { open, close }] = useDisclosure();
  const [typed, setTyped] = useState('');
  const remove = useMutation({
    mutationFn: () => data(api.DELETE('/api/v1/datasets/{id}', { params: { path: { id: dataset.id } } })),
    onSuccess: async () => {
      await cache.invalidateQueries({ queryKey: ['datasets'] });
      await navigate({ to: '/app/datasets' });
    },
  });
  return (
    <>
      <Button variant="default" onClick={open}>
        {t('action.delete')}
      </Button>
      <Modal opened={opened} onClose={close} title={t('dataset.deleteTitle')} closeButtonProps={{ 'aria-label': t('action.close') }}>
        <form
          onSubmit={(e) => {
            e.preventDefault();
            remove.mutate();
          }}
        >
          <Stack>
            <Text>{t('dataset.deleteText', { count: dataset.rows, rows: format.number(dataset.rows), name: dataset.name })}</Text>
            <TextInput label={t('dataset.deleteType')} value={typed} onChange={(e) => setTyped(e.currentTarget.value)} data-autofocus />
            {remove.isError && <Refusal error={remove.error} />}
            <Button type="submit" color="red" disabled={typed !== dataset.name} loading={remove.isPending}>
              {t('action.delete')}
            </Button>
          </Stack>
        </form>
      </Modal>
    </>
  );
}

function Entries({ id }: { id: string }) {
  const { t } = useTranslation();
  const [q, setQ] = useState('');
  const [asked] = useDebouncedValue(q, 250);
  const entries = useInfiniteQuery({
    queryKey: ['entries', id, asked],
    initialPageParam: '',
    queryFn: ({ pageParam }) =>
      data(api.GET('/api/v1/datasets/{id}/entries', { params: { path: { id }, query: { limit: 50, ...(asked ? { q: asked } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  return (
    <Stack>
      <TextInput label={t('dataset.search')} value={q} onChange={(e) => setQ(e.currentTarget.value)} maw={360} />
      <Answer of={entries}>
        {(pages) => {
          if (!pages.pages[0]?.data.length) return <Empty title={t('entries.empty')} text={t(asked ? 'entries.noneFound' : 'entries.emptyText')} />;
          return (
            <>
              <Listed pages={pages.pages} />
              {entries.hasNextPage && (
                <Button variant="default" onClick={() => void entries.fetchNextPage()} loading={entries.isFetchingNextPage}>
                  {t('action.more')}
                </Button>
              )}
            </>
          );
        }}
      </Answer>
    </Stack>
  );
}

/** The entries that were read so far; typing in the search does not draw them anew. */
const Listed = memo(function Listed({ pages }: { pages: { data: Schema<'Entry'>[] }[] }) {
  const { t } = useTranslation();
  return (
    <Table verticalSpacing="xs" className="cards">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>{t('field.title')}</Table.Th>
          <Table.Th>{t('field.aliases')}</Table.Th>
          <Table.Th>{t('field.countries')}</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {pages.map((p) =>
          p.data.map((e) => (
            <Table.Tr key={e.id}>
              <Table.Td fw={550}>{e.name}</Table.Td>
              <Table.Td data-label={t('field.aliases')}>{e.aliases.join('; ') || '–'}</Table.Td>
              <Table.Td data-label={t('field.countries')}>{e.countries.map(format.country).join(', ') || '–'}</Table.Td>
            </Table.Tr>
          )),
        )}
      </Table.Tbody>
    </Table>
  );
});

function Imports({ id, follows }: { id: string; follows: boolean }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const cache = useQueryClient();
  const [mode, setMode] = useState<'append' | 'replace'>('append');
  const [share, setShare] = useState(0);
  const [trial, setTrial] = useState<{ file: File; im: Import } | null>(null);
  const list = useQuery({ queryKey: ['imports', id], queryFn: () => data(api.GET('/api/v1/datasets/{id}/imports', { params: { path: { id } } })) });
  const send = useMutation({
    mutationFn: async ({ file, dry }: { file: File; dry: boolean }) => {
      const im = await upload<Import>(`/api/v1/datasets/${id}/imports?mode=${mode}${dry ? '&dry_run=true' : ''}`, file, setShare);
      if (!dry) return setTrial(null);
      await follow(`/api/v1/imports/${im.id}/events`, ends, () => undefined, AbortSignal.timeout(600_000));
      setTrial({ file, im: await data(api.GET('/api/v1/imports/{id}', { params: { path: { id: im.id } } })) });
    },
    onSettled: () => {
      setShare(0);
      return cache.invalidateQueries({ queryKey: ['imports', id] });
    },
  });
  const take = (file: File) => send.mutate({ file, dry: true });
  return (
    <Stack>
      {follows && <Text c="dimmed">{t('imports.follows')}</Text>}
      {may('dataset:write') && !follows && (
        <DropFile text={t('upload.text')} take={take} doing={send} share={share}>
          <SegmentedControl
            aria-label={t('upload.mode')}
            value={mode}
            onChange={(v) => setMode(v as typeof mode)}
            data={[
              { value: 'append', label: t('upload.append') },
              { value: 'replace', label: t('upload.replace') },
            ]}
          />
        </DropFile>
      )}
      {trial && <Preview trial={trial} mode={mode} accept={() => send.mutate({ file: trial.file, dry: false })} drop={() => setTrial(null)} busy={send.isPending} />}
      <Answer of={list}>
        {(page) => {
          const real = page.data.filter((im) => !im.dry_run);
          return real.length === 0 ? <Empty title={t('imports.empty')} text={t('imports.emptyText')} /> : real.map((im) => <ImportCard key={im.id} im={im} dataset={id} />);
        }}
      </Answer>
    </Stack>
  );
}

/** What a file would become, before it does. */
function Preview({ trial, mode, accept, drop, busy }: { trial: { file: File; im: Import }; mode: string; accept: () => void; drop: () => void; busy: boolean }) {
  const { t } = useTranslation();
  const im = trial.im;
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => title.current?.focus(), []);
  return (
    <Card withBorder padding="lg">
      <Stack gap="sm">
        <Title order={2} size="h4" ref={title} tabIndex={-1}>
          {t('preview.title', { file: trial.file.name })}
        </Title>
        {im.status === 'failed' ? (
          <Alert color="red" title={im.error_message} />
        ) : (
          <Text>{t('preview.text', { count: im.rows_accepted, accepted: format.number(im.rows_accepted), rejected: format.number(im.rows_rejected), encoding: im.encoding || '–', format: im.format })}</Text>
        )}
        {im.columns.length > 0 && (
          <Table verticalSpacing={4}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t('preview.column')}</Table.Th>
                <Table.Th>{t('preview.field')}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {im.columns.map((c) => (
                <Table.Tr key={c.index}>
                  <Table.Td>{c.header}</Table.Td>
                  <Table.Td>
                    {c.how === 'property' ? t('preview.property') : c.field} {c.how === 'synonym' && <Badge variant="default">{t('preview.synonym')}</Badge>}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
        <Group>
          {im.status === 'succeeded' && im.rows_accepted > 0 && (
            <Button onClick={accept} loading={busy}>
              {t(mode === 'replace' ? 'preview.replace' : 'preview.append', { count: im.rows_accepted, rows: format.number(im.rows_accepted) })}
            </Button>
          )}
          {im.issues > 0 && (
            <Button variant="default" onClick={() => fetchFile(`/api/v1/imports/${im.id}/errors`, `${trial.file.name}.errors.csv`)}>
              {t('imports.errors', { count: im.issues })}
            </Button>
          )}
          <Button variant="default" onClick={drop}>
            {t('action.cancel')}
          </Button>
        </Group>
      </Stack>
    </Card>
  );
}

function ImportCard({ im, dataset }: { im: Import; dataset: string }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const [live, setLive] = useState<Partial<Import>>({});
  const running = im.status === 'queued' || im.status === 'running';
  useEffect(() => {
    if (!running) return;
    const stop = new AbortController();
    follow(`/api/v1/imports/${im.id}/events`, ends, (e) => setLive(e.data as Partial<Import>), stop.signal)
      .catch(() => undefined) // the list, read again, tells how it stands
      .finally(() => {
        if (stop.signal.aborted) return;
        for (const key of ['imports', 'dataset', 'entries', 'stats']) void cache.invalidateQueries({ queryKey: [key, dataset] });
        void cache.invalidateQueries({ queryKey: ['datasets'] });
      });
    return () => stop.abort();
  }, [im.id, running, dataset, cache]);
  const now = { ...im, ...live };
  const cancel = useMutation({
    mutationFn: () => data(api.DELETE('/api/v1/imports/{id}', { params: { path: { id: im.id } } })),
    onSettled: () => cache.invalidateQueries({ queryKey: ['imports', dataset] }),
  });
  return (
    <Card withBorder>
      <Group justify="space-between">
        <div>
          <Text fw={600}>{now.filename}</Text>
          <Text size="sm" c="dimmed">
            {format.time(now.created_at)} · {t('imports.counts', { accepted: format.number(now.rows_accepted), rejected: format.number(now.rows_rejected) })}
          </Text>
        </div>
        <Group gap="xs">
          <Mark color={now.status === 'failed' ? 'red' : now.status === 'succeeded' ? 'green' : 'gray'}>{t(`state.${now.status}`)}</Mark>
          {now.issues > 0 && (
            <Button size="xs" variant="default" onClick={() => fetchFile(`/api/v1/imports/${im.id}/errors`, `${im.filename}.errors.csv`)}>
              {t('imports.errors', { count: now.issues })}
            </Button>
          )}
          {running && (
            <Button size="xs" variant="default" onClick={() => cancel.mutate()} loading={cancel.isPending}>
              {t('action.cancel')}
            </Button>
          )}
        </Group>
      </Group>
      {running && <Progress mt="sm" animated value={now.size_bytes > 0 ? Math.min(100, (now.bytes_read / now.size_bytes) * 100) : 0} aria-label={t('upload.progress')} />}
      {now.error_message && (
        <Text mt="xs" size="sm" c="red">
          {now.error_message}
        </Text>
      )}
    </Card>
  );
}

function Stats({ id }: { id: string }) {
  const { t } = useTranslation();
  const stats = useQuery({ queryKey: ['stats', id], queryFn: () => data(api.GET('/api/v1/datasets/{id}/stats', { params: { path: { id } } })) });
  return (
    <Answer of={stats}>
      {(s) => (
        <SimpleGrid cols={{ base: 1, md: 2 }}>
          {s.countries.length > 0 && (
            <Card withBorder>
              <Suspense fallback={<Loader aria-label={t('state.loading')} />}>
                <World counts={s.countries} />
              </Suspense>
            </Card>
          )}
          <Shares title={t('field.countries')} total={s.rows} rows={s.countries.map((c) => ({ label: format.country(c.value), count: c.count }))} />
          <Shares title={t('field.schemaType')} total={s.rows} rows={s.schema_types.map((c) => ({ label: c.value, count: c.count }))} />
          <Text size="sm">{t('stats.filled', { aliases: format.number(s.with_aliases), country: format.number(s.with_country), place: format.number(s.with_coordinates), rows: format.number(s.rows) })}</Text>
        </SimpleGrid>
      )}
    </Answer>
  );
}

function Shares({ title, total, rows }: { title: string; total: number; rows: { label: string; count: number }[] }) {
  if (rows.length === 0) return null;
  return (
    <Card withBorder>
      <Title order={2} size="h5" mb="sm">
        {title}
      </Title>
      <Stack gap={6}>
        {rows.slice(0, 20).map((r) => (
          <Group key={r.label} gap="sm" wrap="nowrap">
            <Text size="sm" w={150} truncate title={r.label}>
              {r.label || '–'}
            </Text>
            <Progress flex={1} value={total > 0 ? (r.count / total) * 100 : 0} aria-label={r.label} />
            <Text size="sm" w={64} ta="end">
              {format.number(r.count)}
            </Text>
          </Group>
        ))}
      </Stack>
    </Card>
  );
}
