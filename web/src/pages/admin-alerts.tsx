import { Button, Group, SegmentedControl, Select, Stack, Text, TextInput } from '@mantine/core';
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
import { Answer, Refusal } from '../parts/states';

// A rule and a subject; empty is every one.
interface Quiet {
  rule: string;
  subject: string;
}

/** What is wrong with the platform, what was, and what is kept from being told. */
export function Alerts() {
  const { t } = useTranslation();
  const [asked, setAsked] = useState<Quiet | null>(null);
  return (
    <Page
      title={t('admin.alerts')}
      text={t('admin.alertsText')}
      action={
        <Button variant="default" onClick={() => setAsked({ rule: '', subject: '' })}>
          {t('alert.silence')}
        </Button>
      }
    >
      <List silence={setAsked} />
      <Silences />
      {asked && <Silence of={asked} close={() => setAsked(null)} />}
    </Page>
  );
}

function List({ silence }: { silence: (of: Quiet) => void }) {
  const { t } = useTranslation();
  const [status, setStatus] = useState<'' | 'firing' | 'resolved'>('');
  const alerts = useInfiniteQuery({
    queryKey: ['admin', 'alerts', status],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/admin/alerts', { params: { query: { limit: 50, ...(status ? { status } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
    refetchInterval: 30_000,
  });
  return (
    <Section title={t('admin.alerts')} action={<SegmentedControl aria-label={t('research.state')} value={status} onChange={(v) => setStatus(v as typeof status)} data={[{ value: '', label: t('webhooks.all') }, ...(['firing', 'resolved'] as const).map((s) => ({ value: s, label: t(`alert.${s}`) }))]} />}>
      <Answer of={alerts}>
        {(pages) =>
          pages.pages[0]?.data.length === 0 ? (
            <Text c="dimmed">{t('alert.none')}</Text>
          ) : (
            <Rows
              label={t('admin.alerts')}
              rows={pages.pages.flatMap((p) => p.data)}
              id={(a) => a.id}
              columns={[
                {
                  label: t('admin.what'),
                  show: (a) => (
                    <Stack gap={0}>
                      <Text size="sm" fw={550}>
                        {a.summary}
                      </Text>
                      <Text size="sm" c="dimmed">
                        {a.rule} · {a.subject}
                      </Text>
                    </Stack>
                  ),
                },
                { label: t('alert.severity'), show: (a) => <Mark color={a.severity === 'critical' ? 'red' : 'orange'}>{t(`alert.${a.severity}`)}</Mark> },
                {
                  label: t('research.state'),
                  show: (a) => (
                    <Group gap={4}>
                      <Mark color={a.status === 'firing' ? 'red' : 'green'}>{t(`alert.${a.status}`)}</Mark>
                      {a.silenced && <Mark>{t('alert.silenced')}</Mark>}
                    </Group>
                  ),
                },
                { label: t('admin.since'), show: (a) => format.time(a.started_at) },
                { label: t('admin.until'), show: (a) => (a.resolved_at ? format.time(a.resolved_at) : '–') },
                { label: t('alert.told'), show: (a) => (a.notified_at ? format.time(a.notified_at) : '–') },
                {
                  label: t('field.actions'),
                  show: (a) =>
                    a.status === 'firing' &&
                    !a.silenced && (
                      <Button size="xs" variant="default" onClick={() => silence({ rule: a.rule, subject: a.subject })} aria-label={t('alert.silenceOne', { rule: a.rule, subject: a.subject })}>
                        {t('alert.silence')}
                      </Button>
                    ),
                },
              ]}
            />
          )
        }
      </Answer>
      <More of={alerts} />
    </Section>
  );
}

function Silences() {
  const { t } = useTranslation();
  const [status, setStatus] = useState<'active' | 'ended'>('active');
  const silences = useInfiniteQuery({
    queryKey: ['admin', 'silences', status],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/admin/alerts/silences', { params: { query: { limit: 50, status, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  const end = useAct((id: string) => data(api.DELETE('/api/v1/admin/alerts/silences/{id}', { params: { path: { id } } })), { refresh: ['admin'] });
  const every = (name: string) => name || t('alert.every');
  return (
    <Section title={t('alert.silences')} action={<SegmentedControl aria-label={t('alert.silences')} value={status} onChange={(v) => setStatus(v as typeof status)} data={(['active', 'ended'] as const).map((s) => ({ value: s, label: t(`silence.${s}`) }))} />}>
      {end.isError && <Refusal error={end.error} />}
      <Answer of={silences}>
        {(pages) =>
          pages.pages[0]?.data.length === 0 ? (
            <Text c="dimmed">{t('alert.noSilences')}</Text>
          ) : (
            <Rows
              label={t('alert.silences')}
              rows={pages.pages.flatMap((p) => p.data)}
              id={(s) => s.id}
              columns={[
                { label: t('alert.rule'), show: (s) => every(s.rule) },
                { label: t('alert.subject'), show: (s) => every(s.subject) },
                { label: t('admin.reason'), show: (s) => `${s.reason} (${s.author})` },
                { label: t('admin.since'), show: (s) => format.time(s.created_at) },
                { label: t('admin.until'), show: (s) => format.time(s.ends_at) },
                {
                  label: t('field.actions'),
                  show: (s) =>
                    status === 'active' && (
                      <Button size="xs" variant="default" onClick={() => end.mutate(s.id)} loading={end.isPending && end.variables === s.id} aria-label={t('alert.endOne', { rule: every(s.rule), subject: every(s.subject) })}>
                        {t('acting.end')}
                      </Button>
                    ),
                },
              ]}
            />
          )
        }
      </Answer>
      <More of={silences} />
    </Section>
  );
}

const times = [30, 60, 240, 1440, 10_080]; // minutes; a week is the most

function Silence({ of, close }: { of: Quiet; close: () => void }) {
  const { t } = useTranslation();
  const [rule, setRule] = useState(of.rule);
  const [subject, setSubject] = useState(of.subject);
  const [minutes, setMinutes] = useState(60);
  const health = useQuery({ queryKey: ['services'], queryFn: () => data(api.GET('/api/monitoring/health')) });
  const names = [...new Set([subject, ...(health.data?.services ?? []).map((s: Schema<'Health'>) => s.service)])].filter(Boolean);
  const add = useAct((reason: string) => data(api.POST('/api/v1/admin/alerts/silences', { body: { rule: rule.trim(), subject: subject.trim(), minutes, reason } })), { refresh: ['admin'], done: close });
  return (
    <Reasoned title={t('alert.silence')} close={close} submit={add.mutate} doing={add} label={t('alert.silence')}>
      <Text size="sm">{t('alert.silenceText')}</Text>
      <TextInput label={t('alert.rule')} placeholder={t('alert.every')} value={rule} onChange={(e) => setRule(e.currentTarget.value)} maxLength={100} />
      <TextInput label={t('alert.subject')} placeholder={t('alert.every')} value={subject} onChange={(e) => setSubject(e.currentTarget.value)} maxLength={100} list="subjects" />
      <datalist id="subjects">
        {names.map((n) => (
          <option key={n} value={n} />
        ))}
      </datalist>
      <Select label={t('alert.for')} allowDeselect={false} value={String(minutes)} onChange={(v) => setMinutes(Number(v))} data={times.map((m) => ({ value: String(m), label: format.span(m * 60_000) }))} />
    </Reasoned>
  );
}
