import { Accordion, Alert, Button, Card, Code, Group, SegmentedControl, Stack, TagsInput, Text, TextInput } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { More } from '../parts/rows';
import { OnceDialog } from '../parts/secret';
import { Answer, Empty, Refusal } from '../parts/states';
import { useSession } from '../session';

// Groups that one subscribes to most; any action of the audit record can be named.
const groups = ['*', 'dataset.*', 'import.*', 'run.*', 'match_job.*', 'member.*', 'api_key.*', 'subscription.*', 'payment.*', 'privacy.*'];

export function Webhooks() {
  const { t } = useTranslation();
  const { may } = useSession();
  const [adding, setAdding] = useState(false);
  const [secret, setSecret] = useState<string | null>(null);
  const endpoints = useQuery({ queryKey: ['webhooks'], queryFn: () => data(api.GET('/api/v1/webhook-endpoints')) });
  return (
    <Page title={t('nav.webhooks')} text={t('webhooks.text')} action={may('webhook:write') && <Button onClick={() => setAdding(true)}>{t('webhooks.add')}</Button>}>
      <Answer of={endpoints}>
        {(page) => (page.data.length === 0 ? <Empty title={t('webhooks.empty')} text={t('webhooks.emptyText')} /> : page.data.map((e) => <Endpoint key={e.id} endpoint={e} reveal={setSecret} />))}
      </Answer>
      {adding && (
        <Add
          close={() => setAdding(false)}
          made={(e) => {
            setAdding(false);
            setSecret(e.secret);
          }}
        />
      )}
      <OnceDialog value={secret} title={t('webhooks.secret')} close={() => setSecret(null)}>
        <Text size="sm">{t('webhooks.secretText')}</Text>
      </OnceDialog>
    </Page>
  );
}

function Add({ close, made }: { close: () => void; made: (e: Schema<'EndpointWithSecret'>) => void }) {
  const { t } = useTranslation();
  const [url, setUrl] = useState('');
  const [description, setDescription] = useState('');
  const [events, setEvents] = useState<string[]>(['run.*']);
  const create = useAct(() => data(api.POST('/api/v1/webhook-endpoints', { body: { url, description, events } })), { refresh: ['webhooks'], done: made });
  const problem = create.error instanceof Problem ? create.error : null;
  return (
    <FormDialog opened close={close} title={t('webhooks.add')} submit={() => create.mutate()} doing={create} label={t('action.create')} ready={url !== '' && events.length > 0}>
      <TextInput label={t('webhooks.url')} type="url" placeholder="https://" value={url} onChange={(e) => setUrl(e.currentTarget.value)} error={problem?.fields.url} data-autofocus />
      <TagsInput label={t('webhooks.events')} description={t('webhooks.eventsText')} data={groups} value={events} onChange={setEvents} error={problem?.fields.events} />
      <TextInput label={t('field.description')} maxLength={500} value={description} onChange={(e) => setDescription(e.currentTarget.value)} />
    </FormDialog>
  );
}

function Endpoint({ endpoint: e, reveal }: { endpoint: Schema<'Endpoint'>; reveal: (secret: string) => void }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const path = { params: { path: { id: e.id } } };
  const [opened, setOpened] = useState(false);
  const test = useAct(() => data(api.POST('/api/v1/webhook-endpoints/{id}/test', path)), { refresh: ['deliveries'], said: t('webhooks.tested'), done: () => setOpened(true) });
  const rotate = useAct(() => data(api.POST('/api/v1/webhook-endpoints/{id}/rotate', path)), { refresh: ['webhooks'], done: (answer) => reveal(answer.secret) });
  const set = useAct((status: 'active' | 'disabled') => data(api.PATCH('/api/v1/webhook-endpoints/{id}', { ...path, body: { status } })), { refresh: ['webhooks'] });
  const remove = useAct(() => data(api.DELETE('/api/v1/webhook-endpoints/{id}', path)), { refresh: ['webhooks'] });
  const failed = test.error ?? rotate.error ?? set.error ?? remove.error;
  return (
    <Card withBorder component="section" aria-label={e.url}>
      <Stack gap="sm">
        <Group justify="space-between" align="flex-start">
          <div>
            <Text fw={600}>{e.url}</Text>
            <Text size="sm" c="dimmed">
              {[e.description, e.events.join(', ')].filter(Boolean).join(' · ')}
            </Text>
          </div>
          <Mark color={e.status === 'active' ? 'green' : 'red'}>{t(`webhooks.${e.status}`)}</Mark>
        </Group>
        {e.failing_since && <Alert color="orange" title={t('webhooks.failing', { date: format.time(e.failing_since) })} />}
        {e.disabled_reason && <Alert color="red" title={e.disabled_reason} />}
        {failed && <Refusal error={failed} />}
        {may('webhook:write') && (
          <Group gap="xs">
            <Button size="xs" variant="default" onClick={() => test.mutate()} loading={test.isPending}>
              {t('webhooks.test')}
            </Button>
            <Button size="xs" variant="default" onClick={() => rotate.mutate()} loading={rotate.isPending}>
              {t('webhooks.rotate')}
            </Button>
            <Button size="xs" variant="default" onClick={() => set.mutate(e.status === 'active' ? 'disabled' : 'active')} loading={set.isPending}>
              {t(e.status === 'active' ? 'webhooks.disable' : 'webhooks.enable')}
            </Button>
            <Button size="xs" variant="default" onClick={() => remove.mutate()} loading={remove.isPending} aria-label={t('webhooks.removeOne', { url: e.url })}>
              {t('action.delete')}
            </Button>
          </Group>
        )}
        <Accordion variant="contained" order={2} value={opened ? 'deliveries' : null} onChange={(v) => setOpened(v !== null)}>
          <Accordion.Item value="deliveries">
            <Accordion.Control>{t('webhooks.deliveries')}</Accordion.Control>
            <Accordion.Panel>{opened && <Deliveries id={e.id} />}</Accordion.Panel>
          </Accordion.Item>
        </Accordion>
      </Stack>
    </Card>
  );
}

function Deliveries({ id }: { id: string }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const [status, setStatus] = useState('');
  const deliveries = useInfiniteQuery({
    queryKey: ['deliveries', id, status],
    initialPageParam: '',
    queryFn: ({ pageParam }) =>
      data(api.GET('/api/v1/webhook-endpoints/{id}/deliveries', { params: { path: { id }, query: { limit: 20, ...(status ? { status: status as 'pending' } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
    refetchInterval: 5_000,
  });
  const replay = useAct((delivery: string) => data(api.POST('/api/v1/webhook-deliveries/{id}/replay', { params: { path: { id: delivery } } })), { refresh: ['deliveries'] });
  return (
    <Stack gap="sm">
      <SegmentedControl aria-label={t('research.state')} value={status} onChange={setStatus} data={[{ value: '', label: t('webhooks.all') }, ...(['pending', 'delivered', 'failed'] as const).map((s) => ({ value: s, label: t(`delivery.${s}`) }))]} />
      {replay.isError && <Refusal error={replay.error} />}
      <Answer of={deliveries}>
        {(pages) => {
          const rows = pages.pages.flatMap((p) => p.data);
          if (rows.length === 0) return <Text c="dimmed">{t('webhooks.noDeliveries')}</Text>;
          return (
            <Accordion variant="separated" order={3}>
              {rows.map((d) => {
                const last = d.attempts.at(-1);
                return (
                  <Accordion.Item key={d.id} value={d.id}>
                    <Accordion.Control>
                      <Group gap="sm">
                        <Mark color={d.status === 'failed' ? 'red' : d.status === 'delivered' ? 'green' : 'gray'}>{t(`delivery.${d.status}`)}</Mark>
                        <Text size="sm">{d.type}</Text>
                        <Text size="sm" c="dimmed">
                          {format.time(d.created_at)}
                        </Text>
                      </Group>
                    </Accordion.Control>
                    <Accordion.Panel>
                      <Stack gap="xs">
                        {d.attempts.map((a, i) => (
                          <Text size="sm" key={i}>
                            {format.time(a.at)} · {a.status ?? a.error} · {t('match.took', { ms: format.number(a.took_ms) })}
                          </Text>
                        ))}
                        {d.next_at && <Text size="sm">{t('webhooks.next', { date: format.time(d.next_at) })}</Text>}
                        <Code block tabIndex={0}>
                          {JSON.stringify(d.payload, null, 2)}
                        </Code>
                        {may('webhook:write') && (d.status !== 'pending' || last) && (
                          <Button size="xs" variant="default" w="fit-content" onClick={() => replay.mutate(d.id)} loading={replay.isPending && replay.variables === d.id}>
                            {t('webhooks.replay')}
                          </Button>
                        )}
                      </Stack>
                    </Accordion.Panel>
                  </Accordion.Item>
                );
              })}
            </Accordion>
          );
        }}
      </Answer>
      <More of={deliveries} />
    </Stack>
  );
}
