import { Card, Group, Loader, SimpleGrid, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { Page, Section } from '../parts/page';
import { Rows } from '../parts/rows';
import { Answer } from '../parts/states';

const Chart = lazy(() => import('../parts/chart').then((m) => ({ default: m.Chart })));
const moves = ['new', 'expansion', 'reactivation', 'contraction', 'churn'] as const;
const share = (n: number | null) => (n === null ? '–' : format.percent(n));

/** How the business stands: recurring revenue, the way to paying, cohorts, cost. */
export function Business() {
  const { t } = useTranslation();
  const overview = useQuery({ queryKey: ['admin', 'overview'], queryFn: () => data(api.GET('/api/v1/admin/analytics/overview')) });
  const revenue = useQuery({ queryKey: ['admin', 'revenue'], queryFn: () => data(api.GET('/api/v1/admin/analytics/revenue')) });
  const funnel = useQuery({ queryKey: ['admin', 'funnel'], queryFn: () => data(api.GET('/api/v1/admin/analytics/funnel')) });
  const cohorts = useQuery({ queryKey: ['admin', 'cohorts'], queryFn: () => data(api.GET('/api/v1/admin/analytics/cohorts')) });
  const used = useQuery({ queryKey: ['admin', 'used'], queryFn: () => data(api.GET('/api/v1/admin/analytics/usage')) });
  return (
    <Page title={t('admin.business')} text={t('admin.businessText')}>
      <Answer of={overview}>{(o) => <Standing of={o} />}</Answer>
      <Section title={t('figures.revenue')}>
        <Answer of={revenue}>{(page) => <Revenue months={page.data} />}</Answer>
      </Section>
      <Section title={t('figures.funnel')}>
        <Answer of={funnel}>
          {(page) => (
            <Rows
              label={t('figures.funnel')}
              rows={page.data}
              id={(s) => s.step}
              columns={[
                { label: t('figures.step'), show: (s) => t(`funnel.${s.step}`) },
                { label: t('admin.tenants'), show: (s) => format.number(s.tenants), end: true },
                { label: t('figures.after'), show: (s) => (s.median_hours === null ? '–' : format.span(s.median_hours * 3_600_000)), end: true },
              ]}
            />
          )}
        </Answer>
      </Section>
      <Section title={t('figures.cohorts')} text={t('figures.cohortsText')}>
        <Answer of={cohorts}>
          {(page) => (
            <Rows
              label={t('figures.cohorts')}
              rows={page.data}
              id={(c) => c.month}
              columns={[
                { label: t('figures.month'), show: (c) => c.month },
                { label: t('figures.size'), show: (c) => format.number(c.size), end: true },
                { label: t('figures.active'), show: (c) => c.active.map(format.number).join(' · ') },
                { label: t('figures.paying'), show: (c) => c.paying.map(format.number).join(' · ') },
              ]}
            />
          )}
        </Answer>
      </Section>
      <Section title={t('figures.cost')}>
        <Answer of={used}>
          {(u) =>
            u.revenue.length === 0 ? (
              <Text c="dimmed">{t('figures.nothing')}</Text>
            ) : (
              <Rows
                label={t('figures.cost')}
                rows={u.revenue}
                id={(r) => `${r.tenant_id} ${r.currency}`}
                columns={[
                  { label: t('admin.tenant'), show: (r) => r.tenant_id },
                  { label: t('figures.paid'), show: (r) => format.money(r.paid, r.currency), end: true },
                  { label: t('figures.costs'), show: (r) => format.usd(r.cost_usd_micros / 1e6), end: true },
                  { label: t('figures.margin'), show: (r) => share(r.gross_margin), end: true },
                ]}
              />
            )
          }
        </Answer>
      </Section>
    </Page>
  );
}

function Standing({ of: o }: { of: Schema<'OverviewResponse'> }) {
  const { t } = useTranslation();
  const facts = [
    { name: t('admin.tenants'), value: format.number(o.tenants) },
    ...o.revenue.map((m) => ({ name: t('figures.mrr', { currency: m.currency.toUpperCase() }), value: format.money(m.closing, m.currency) })),
    { name: t('figures.trials'), value: `${format.number(o.trials.running)} (${share(o.trials.conversion)})` },
    { name: t('figures.failed'), value: t('figures.recovered', { failed: format.number(o.payments.failed), recovered: format.number(o.payments.recovered) }) },
    { name: t('admin.disputes'), value: format.number(o.payments.disputes) },
  ];
  return (
    <>
      <SimpleGrid cols={{ base: 2, sm: 3, lg: 5 }}>
        {facts.map((f) => (
          <Card withBorder key={f.name} padding="md">
            <Text size="sm" c="dimmed">
              {f.name}
            </Text>
            <Text fw={650}>{f.value}</Text>
          </Card>
        ))}
      </SimpleGrid>
      <Group gap="lg">
        {o.plans.map((p) => (
          <Text size="sm" key={p.plan}>
            {p.plan}: {format.number(p.tenants)}
          </Text>
        ))}
      </Group>
      <Text size="sm" c="dimmed">
        {t('figures.made', { date: format.time(o.made_at) })} {o.mrr_is}
      </Text>
    </>
  );
}

function Revenue({ months }: { months: Schema<'Month'>[] }) {
  const { t } = useTranslation();
  if (months.length === 0) return <Text c="dimmed">{t('figures.nothing')}</Text>;
  const currencies = [...new Set(months.map((m) => m.currency))];
  return (
    <>
      {currencies.map((currency) => {
        const rows = months.filter((m) => m.currency === currency).sort((a, b) => a.month.localeCompare(b.month));
        return (
          <Card withBorder key={currency}>
            <Text fw={600} mb="sm">
              {t('figures.mrr', { currency: currency.toUpperCase() })}
            </Text>
            <Suspense fallback={<Loader aria-label={t('state.loading')} />}>
              <Chart label={t('figures.revenue')} data={rows.map((m) => ({ month: m.month, [t('figures.closing')]: m.closing }))} dataKey="month" series={[{ name: t('figures.closing'), color: 'ink.7' }]} valueFormatter={(n) => format.money(n, currency)} />
            </Suspense>
            <Rows
              label={t('figures.mrr', { currency: currency.toUpperCase() })}
              rows={rows}
              id={(m) => m.month}
              columns={[
                { label: t('figures.month'), show: (m) => m.month },
                ...moves.map((move) => ({ label: t(`move.${move}`), show: (m: Schema<'Month'>) => format.money(m[move], currency), end: true })),
                { label: t('figures.closing'), show: (m) => format.money(m.closing, currency), end: true },
                { label: t('figures.nrr'), show: (m) => share(m.nrr), end: true },
              ]}
            />
          </Card>
        );
      })}
    </>
  );
}
