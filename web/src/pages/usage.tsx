import { Button, Card, Group, Loader, Select, SimpleGrid, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { fetchFile } from '../parts/act';
import { Used } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Answer } from '../parts/states';

const Chart = lazy(() => import('../parts/chart').then((m) => ({ default: m.Chart })));
const day = 86_400_000;

export function Usage() {
  const { t } = useTranslation();
  const usage = useQuery({ queryKey: ['usage'], queryFn: () => data(api.GET('/api/v1/usage')), refetchInterval: 10_000 });
  const ahead = useQuery({ queryKey: ['usage', 'ahead'], queryFn: () => data(api.GET('/api/v1/usage/analytics')), staleTime: 60_000 });
  return (
    <Page
      title={t('nav.usage')}
      text={t('usage.text')}
      action={
        <Button variant="default" onClick={() => fetchFile('/api/v1/usage/export?granularity=day', 'usage.csv')}>
          {t('action.export')}
        </Button>
      }
    >
      <Answer of={usage}>
        {(u) => (
          <>
            <Text>{t('usage.plan', { plan: u.plan })}</Text>
            <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }}>
              {u.data.map((m) => (
                <Meter key={m.meter} of={m} leads={ahead.data?.forecast.find((f) => f.meter === m.meter)} />
              ))}
            </SimpleGrid>
          </>
        )}
      </Answer>
      <Course />
    </Page>
  );
}

function Meter({ of: m, leads }: { of: Schema<'MeterUsage'>; leads: Schema<'Forecast'> | undefined }) {
  const { t } = useTranslation();
  const share = m.limit ? m.used / m.limit : 0;
  const name = t(`meter.${m.meter}` as 'meter.match');
  return (
    <Card withBorder>
      <Group justify="space-between">
        <Text fw={600}>{name}</Text>
        {m.limit !== null && <Text size="sm">{format.percent(share)}</Text>}
      </Group>
      <Text ff="monospace">
        {format.number(m.used)} / {m.limit === null ? t('usage.unlimited') : format.number(m.limit)}
      </Text>
      {m.limit !== null && <Used share={share} label={name} />}
      {m.resets_at && (
        <Text size="sm" c="dimmed" mt={4}>
          {t('usage.resets', { date: format.date(m.resets_at) })}
        </Text>
      )}
      {leads && m.used > 0 && (
        <Text size="sm" c="dimmed">
          {leads.runs_out_at ? t('usage.runsOut', { date: format.date(leads.runs_out_at) }) : t('usage.leads', { count: leads.at_end, units: format.number(leads.at_end) })}
        </Text>
      )}
    </Card>
  );
}

/** One meter over the last thirty days. */
function Course() {
  const { t } = useTranslation();
  const [meter, setMeter] = useState('match');
  const [from] = useState(() => new Date(Math.floor(Date.now() / day) * day - 29 * day).toISOString());
  const course = useQuery({ queryKey: ['usage', 'course', from], queryFn: () => data(api.GET('/api/v1/usage', { params: { query: { granularity: 'day', from } } })) });
  return (
    <Section title={t('usage.course')}>
      <Answer of={course}>
        {(u) => {
          const counted = u.data.filter((m) => m.resets_at);
          const points = new Map(counted.find((m) => m.meter === meter)?.series?.map((p) => [p.at.slice(0, 10), p.units]));
          const rows = Array.from({ length: 30 }, (_, i) => {
            const at = new Date(Date.parse(from) + i * day).toISOString();
            return { day: format.dayMonth(at), [t('usage.used')]: points.get(at.slice(0, 10)) ?? 0 };
          });
          const total = rows.reduce((sum, r) => sum + Number(r[t('usage.used')]), 0);
          return (
            <Card withBorder>
              <Group justify="space-between" mb="sm">
                <Select aria-label={t('usage.meter')} value={meter} onChange={(v) => setMeter(v ?? 'match')} allowDeselect={false} data={counted.map((m) => ({ value: m.meter, label: t(`meter.${m.meter}` as 'meter.match') }))} />
                <Text size="sm">{t('usage.total', { count: total, total: format.number(total) })}</Text>
              </Group>
              <Suspense fallback={<Loader aria-label={t('state.loading')} />}>
                <Chart label={t('usage.course')} data={rows} dataKey="day" series={[{ name: t('usage.used'), color: 'ink.7' }]} valueFormatter={format.number} />
              </Suspense>
            </Card>
          );
        }}
      </Answer>
    </Section>
  );
}
