import { Button, Card, Group, List, SimpleGrid, Stack, Text, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format, type Key } from '../i18n';
import { Answer } from '../parts/states';

const shown = ['match', 'dataset_search', 'entity_search', 'relations_normal', 'relations_deep', 'import_rows'] as const;

export function Plans() {
  const { t, i18n } = useTranslation();
  useEffect(() => {
    document.title = `${t('nav.plans')} · ChainReactions`;
  }, [t]);
  const plans = useQuery({ queryKey: ['plans'], queryFn: () => data(api.GET('/api/v1/plans')) });
  const amount = (n: number | undefined) => (n === undefined ? '–' : n < 0 ? t('usage.unlimited') : format.number(n));
  return (
    <Stack gap="lg">
      <div>
        <Title order={1}>{t('plans.title')}</Title>
        <Text c="dimmed">{t('plans.text')}</Text>
      </div>
      <Answer of={plans}>
        {(page) => (
          <SimpleGrid cols={{ base: 1, xs: 2, md: page.data.length }}>
            {page.data.map((plan) => (
              <Card withBorder key={plan.name} padding="lg">
                <Stack gap="sm" h="100%">
                  <Title order={2} size="h3">
                    {i18n.language === 'zh-CN' ? plan.title['zh-CN'] : plan.title.en}
                  </Title>
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
                    <List.Item>{t('plans.rate', { count: plan.rates.match ?? 0 })}</List.Item>
                  </List>
                  <Button component={Link} to="/sign-up" mt="auto" variant={plan.name === 'free' ? 'filled' : 'default'}>
                    {t('plans.choose')}
                  </Button>
                </Stack>
              </Card>
            ))}
          </SimpleGrid>
        )}
      </Answer>
    </Stack>
  );
}
