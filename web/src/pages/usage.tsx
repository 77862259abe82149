import { Card, Group, Progress, SimpleGrid, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { Page } from '../parts/page';
import { Answer } from '../parts/states';

export function Usage() {
  const { t } = useTranslation();
  const usage = useQuery({ queryKey: ['usage'], queryFn: () => data(api.GET('/api/v1/usage')), refetchInterval: 10_000 });
  return (
    <Page title={t('nav.usage')} text={t('usage.text')}>
      <Answer of={usage}>
        {(u) => (
          <Stack>
            <Text>{t('usage.plan', { plan: u.plan })}</Text>
            <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }}>
              {u.data.map((m) => {
                const share = m.limit ? m.used / m.limit : 0;
                const name = t(`meter.${m.meter}` as 'meter.match');
                return (
                  <Card withBorder key={m.meter}>
                    <Group justify="space-between">
                      <Text fw={600}>{name}</Text>
                      {m.limit !== null && <Text size="sm">{format.percent(share)}</Text>}
                    </Group>
                    <Text ff="monospace">
                      {format.number(m.used)} / {m.limit === null ? t('usage.unlimited') : format.number(m.limit)}
                    </Text>
                    {m.limit !== null && <Progress mt={6} value={Math.min(100, share * 100)} color={share >= 0.9 ? 'red' : share >= 0.75 ? 'orange' : undefined} aria-label={name} />}
                    {m.resets_at && (
                      <Text size="sm" c="dimmed" mt={4}>
                        {t('usage.resets', { date: format.date(m.resets_at) })}
                      </Text>
                    )}
                  </Card>
                );
              })}
            </SimpleGrid>
          </Stack>
        )}
      </Answer>
    </Page>
  );
}
