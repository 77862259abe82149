// What a plan is and costs, as the server says it.
import { Badge, Card, Group, List, SegmentedControl, Select, SimpleGrid, Stack, Text, Title } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import type { Schema } from '../api';
import { format, type Key } from '../i18n';

export type Plan = Schema<'Plan'>;
export type Interval = 'month' | 'year';

const shown = ['match', 'dataset_search', 'entity_search', 'relations_normal', 'relations_deep', 'import_rows'] as const;

export function useTitle() {
  const { i18n } = useTranslation();
  return (plan: { title: Schema<'Titles'>; name: string } | undefined) => (plan ? plan.title[i18n.language === 'zh-CN' ? 'zh-CN' : 'en'] || plan.name : '');
}

/** Which prices are shown: by the month or the year, in which currency. */
export function usePrices(plans: Plan[], fixed?: string) {
  const { t, i18n } = useTranslation();
  const [interval, setInterval] = useState<Interval>('month');
  const [picked, setPicked] = useState<string | null>(null);
  const currencies = [...new Set(plans.flatMap((p) => (p.prices ?? []).map((price) => price.currency)))];
  const currency = fixed || (picked ?? (i18n.language === 'zh-CN' && currencies.includes('cny') ? 'cny' : 'usd'));
  const choice = (
    <Group>
      <SegmentedControl
        aria-label={t('plans.interval')}
        value={interval}
        onChange={(v) => setInterval(v as Interval)}
        data={[
          { value: 'month', label: t('plans.monthly') },
          { value: 'year', label: t('plans.yearly') },
        ]}
      />
      {!fixed && <Select aria-label={t('plans.currency')} w={110} allowDeselect={false} value={currency} onChange={setPicked} data={currencies.map((c) => ({ value: c, label: c.toUpperCase() }))} />}
    </Group>
  );
  return { interval, currency, choice };
}

export const priceOf = (plan: Plan, interval: Interval, currency: string) => plan.prices?.find((p) => p.interval === interval && p.currency === currency);

export function PlanCards({ plans, interval, currency, current, act }: { plans: Plan[]; interval: Interval; currency: string; current?: string; act: (plan: Plan) => ReactNode }) {
  const { t } = useTranslation();
  const title = useTitle();
  const amount = (n: number | undefined) => (n === undefined ? '–' : n < 0 ? t('usage.unlimited') : format.number(n));
  return (
    <SimpleGrid cols={{ base: 1, xs: 2, md: plans.length }}>
      {plans.map((plan) => {
        const price = priceOf(plan, interval, currency);
        return (
          <Card withBorder key={plan.name} padding="lg">
            <Stack gap="sm" h="100%">
              <Group justify="space-between">
                <Title order={2} size="h3">
                  {title(plan)}
                </Title>
                {current === plan.name && <Badge variant="default">{t('billing.current')}</Badge>}
              </Group>
              <div>
                <Text fw={650} size="xl">
                  {price ? format.money(price.amount, price.currency) : plan.name === 'free' ? format.money(0, currency) : t('plans.ask')}
                </Text>
                <Text size="sm" c="dimmed">
                  {price ? t(interval === 'month' ? 'plans.perMonth' : 'plans.perYear') : '\u00a0'}
                </Text>
              </div>
              <List size="sm" spacing={4} listStyleType="none">
                {shown.map((meter) => (
                  <List.Item key={meter}>
                    <Group gap={6}>
                      <Text fw={600} size="sm">
                        {amount(plan.quotas[meter])}
                      </Text>
                      <Text size="sm" c="dimmed">
                        {t(`meter.${meter}` satisfies Key)}
                      </Text>
                    </Group>
                  </List.Item>
                ))}
                <List.Item>{t('plans.levels', { seats: amount(plan.levels.seats), datasets: amount(plan.levels.datasets), rows: amount(plan.levels.dataset_rows) })}</List.Item>
                <List.Item>{t('plans.rate', { count: plan.rates.match ?? 0, rate: format.number(plan.rates.match ?? 0) })}</List.Item>
              </List>
              {act(plan)}
            </Stack>
          </Card>
        );
      })}
    </SimpleGrid>
  );
}
