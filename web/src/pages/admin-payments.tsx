import { Button, Code, Group, SegmentedControl, Text } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { More, Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';

/** What came from the payment service, and whether its sums and ours agree. */
export function Payments() {
  const { t } = useTranslation();
  return (
    <Page title={t('admin.payments')} text={t('admin.paymentsText')}>
      <Sums />
      <Inbox />
    </Page>
  );
}

function Sums() {
  const { t } = useTranslation();
  const sums = useQuery({ queryKey: ['admin', 'differences'], queryFn: () => data(api.GET('/api/v1/admin/billing/differences')) });
  const prove = useAct(() => data(api.POST('/api/v1/admin/billing/prove')), { refresh: ['admin'] });
  return (
    <Section
      title={t('admin.sums')}
      action={
        <Button variant="default" onClick={() => prove.mutate()} loading={prove.isPending}>
          {t('admin.prove')}
        </Button>
      }
    >
      {prove.isError && <Refusal error={prove.error} />}
      <Answer of={sums}>
        {(page) =>
          page.data.length === 0 ? (
            <Text c="dimmed">{t('admin.sumsAgree')}</Text>
          ) : (
            <Rows
              label={t('admin.sums')}
              rows={page.data}
              id={(w) => `${w.tenant_id} ${w.meter} ${w.period} ${w.what}`}
              columns={[
                { label: t('admin.tenant'), show: (w) => w.tenant_id },
                { label: t('usage.meter'), show: (w) => t(`meter.${w.meter}` as 'meter.match', { defaultValue: w.meter }) },
                { label: t('admin.what'), show: (w) => t(`sum.${w.what}`) },
                { label: t('admin.ours'), show: (w) => format.number(w.ours), end: true },
                { label: t('admin.theirs'), show: (w) => format.number(w.theirs), end: true },
              ]}
            />
          )
        }
      </Answer>
    </Section>
  );
}

function Inbox() {
  const { t } = useTranslation();
  const [status, setStatus] = useState<'' | 'received' | 'done' | 'ignored'>('');
  const events = useInfiniteQuery({
    queryKey: ['admin', 'events', status],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/admin/billing/events', { params: { query: { limit: 50, ...(status ? { status } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  const replay = useAct((id: string) => data(api.POST('/api/v1/admin/billing/events/{id}/replay', { params: { path: { id } } })), { refresh: ['admin'], said: t('admin.replayed') });
  return (
    <Section title={t('admin.inbox')} action={<SegmentedControl aria-label={t('research.state')} value={status} onChange={(v) => setStatus(v as typeof status)} data={[{ value: '', label: t('webhooks.all') }, ...(['received', 'done', 'ignored'] as const).map((s) => ({ value: s, label: t(`inbox.${s}`) }))]} />}>
      {replay.isError && <Refusal error={replay.error} />}
      <Answer of={events}>
        {(pages) => (
          <Rows
            label={t('admin.inbox')}
            rows={pages.pages.flatMap((p) => p.data)}
            id={(e) => e.id}
            columns={[
              { label: t('audit.action'), show: (e) => <Code>{e.type}</Code> },
              { label: t('audit.when'), show: (e) => format.time(e.received_at) },
              { label: t('research.state'), show: (e) => <Mark>{t(`inbox.${e.status}`)}</Mark> },
              {
                label: t('audit.target'),
                show: (e) => (
                  <Text size="sm">
                    {e.customer} {e.note}
                  </Text>
                ),
              },
              {
                label: t('field.actions'),
                show: (e) => (
                  <Group gap="xs">
                    <Button size="xs" variant="default" onClick={() => replay.mutate(e.id)} loading={replay.isPending && replay.variables === e.id} aria-label={t('admin.replayOne', { id: e.id })}>
                      {t('admin.replay')}
                    </Button>
                  </Group>
                ),
              },
            ]}
          />
        )}
      </Answer>
      <More of={events} />
    </Section>
  );
}
