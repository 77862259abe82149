import { Card, Group, Loader, SimpleGrid, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { Mark, Used } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Rows } from '../parts/rows';
import { Answer } from '../parts/states';

type Status = Schema<'Status'>;
const Chart = lazy(() => import('../parts/chart').then((m) => ({ default: m.Chart })));
const colours: Partial<Record<Status['hour']['state'], string>> = { ok: 'green', warning: 'orange', used_up: 'red' };
const dollars = (micros: number) => format.usd(micros / 1e6);

/** What each vendor is asked and costs, within which budgets, and how its calls end. */
export function Providers() {
  const { t } = useTranslation();
  const report = useQuery({ queryKey: ['admin', 'providers'], queryFn: () => data(api.GET('/api/v1/admin/providers')), refetchInterval: 30_000 });
  return (
    <Page title={t('admin.providers')} text={t('admin.providersText')}>
      <Answer of={report}>
        {(r) => {
          const [used, absent] = [r.data.filter((p) => p.configured), r.data.filter((p) => !p.configured)];
          return (
            <>
              <SimpleGrid cols={{ base: 1, sm: 2 }}>
                {used.map((p) => (
                  <Vendor key={p.provider} of={p} />
                ))}
              </SimpleGrid>
              {absent.length > 0 && (
                <Text size="sm" c="dimmed">
                  {t('provider.absent', { names: absent.map((p) => p.provider).join(', ') })}
                </Text>
              )}
              <Cost of={used} />
            </>
          );
        }}
      </Answer>
    </Page>
  );
}

function Vendor({ of: p }: { of: Status }) {
  const { t } = useTranslation();
  const endings = Object.entries(p.last_24_hours).sort(([, a], [, b]) => b - a);
  return (
    <Card withBorder>
      <Stack gap="xs">
        <Group justify="space-between">
          <Text fw={600}>
            {p.provider} {p.model}
          </Text>
          <Group gap={4}>
            {p.sandbox && <Mark>{t('provider.emulated')}</Mark>}
            <Mark color={p.breaker === 'open' ? 'red' : 'green'}>{t(`provider.${p.breaker}`)}</Mark>
          </Group>
        </Group>
        {p.keys > 0 && <Text size="sm">{t('provider.keys', { ready: format.number(p.keys_ready), count: p.keys })}</Text>}
        <Spent title={t('provider.hour')} of={p.hour} />
        <Spent title={t('provider.day')} of={p.day} />
        <Text size="sm" c={endings.length === 0 ? 'dimmed' : undefined}>
          {t('provider.endings')}: {endings.length === 0 ? t('provider.quiet') : endings.map(([how, n]) => `${t(`ending.${how}` as 'ending.ok', { defaultValue: how })} ${format.number(n)}`).join(' · ')}
        </Text>
      </Stack>
    </Card>
  );
}

function Spent({ title, of: b }: { title: string; of: Status['hour'] }) {
  const { t } = useTranslation();
  const limits = [
    { said: t('provider.calls'), used: b.calls, limit: b.calls_limit, show: format.number },
    { said: t('provider.cost'), used: b.cost_micros, limit: b.cost_micros_limit, show: dollars },
  ];
  return (
    <div>
      <Group justify="space-between">
        <Text size="sm" c="dimmed">
          {title}
        </Text>
        <Mark color={colours[b.state]}>{t(`budget.${b.state}`)}</Mark>
      </Group>
      {limits.map((l) => (
        <div key={l.said}>
          <Text size="sm">
            {l.said}: {l.limit > 0 ? `${l.show(l.used)} / ${l.show(l.limit)}` : l.show(l.used)}
          </Text>
          {l.limit > 0 && <Used share={l.used / l.limit} label={`${title}: ${l.said}`} />}
        </div>
      ))}
      {b.state === 'used_up' && <Text size="sm">{t('provider.refused', { date: format.time(b.resets_at) })}</Text>}
    </div>
  );
}

/** What the last thirty days cost, by vendor. */
function Cost({ of }: { of: Status[] }) {
  const { t } = useTranslation();
  const paid = of.filter((p) => p.last_30_days.length > 0);
  const days = [...new Set(paid.flatMap((p) => p.last_30_days.map((d) => d.day)))].sort();
  const shades = ['ink.7', 'orange.6', 'teal.6', 'grape.6', 'yellow.6'];
  return (
    <Section title={t('provider.cost30')}>
      {days.length === 0 ? (
        <Text c="dimmed">{t('provider.nothing')}</Text>
      ) : (
        <>
          <Suspense fallback={<Loader aria-label={t('state.loading')} />}>
            <Chart
              label={t('provider.cost30')}
              type="stacked"
              withLegend
              data={days.map((day) => ({ day: format.dayMonth(day), ...Object.fromEntries(paid.map((p) => [p.provider, (p.last_30_days.find((d) => d.day === day)?.cost_micros ?? 0) / 1e6])) }))}
              dataKey="day"
              series={paid.map((p, i) => ({ name: p.provider, color: shades[i % shades.length] ?? 'ink.7' }))}
              valueFormatter={format.usd}
            />
          </Suspense>
          <Rows
            label={t('provider.cost30')}
            rows={paid}
            id={(p) => p.provider}
            columns={[
              { label: t('provider.vendor'), show: (p) => p.provider },
              { label: t('provider.calls'), show: (p) => format.number(p.last_30_days.reduce((n, d) => n + d.calls, 0)), end: true },
              { label: t('provider.cost'), show: (p) => dollars(p.last_30_days.reduce((n, d) => n + d.cost_micros, 0)), end: true },
            ]}
          />
        </>
      )}
    </Section>
  );
}
