import { Card, Group, Stack, Text, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import { Mark } from '../parts/mark';
import { Answer } from '../parts/states';

interface Health {
  status: string;
  uptime_seconds: number;
  dependencies?: Record<string, string>;
}

export function Status() {
  const { t } = useTranslation();
  useEffect(() => {
    document.title = `${t('nav.status')} · ChainReactions`;
  }, [t]);
  const health = useQuery({
    queryKey: ['health'],
    refetchInterval: 15_000,
    queryFn: async () => (await (await fetch('/api/health')).json()) as Health, // 503 has the same shape
  });
  const word = (state: string) => (state === 'down' ? t('status.down') : state === 'degraded' ? t('status.degraded') : t('status.healthy'));
  const colour = (state: string) => (state === 'down' ? 'red' : state === 'degraded' ? 'orange' : 'green');
  return (
    <Stack gap="lg" maw={640}>
      <Title order={1}>{t('nav.status')}</Title>
      <Answer of={health}>
        {(h) => (
          <>
            <Text size="lg" role="status">
              {h.status === 'healthy' ? t('status.allGood') : t('status.trouble')}
            </Text>
            {Object.entries(h.dependencies ?? {}).map(([name, state]) => (
              <Card withBorder key={name} padding="sm">
                <Group justify="space-between">
                  <Text>{name === 'database' ? t('status.database') : name === 'redis' ? t('status.redis') : name}</Text>
                  <Mark color={colour(state)}>{word(state)}</Mark>
                </Group>
              </Card>
            ))}
          </>
        )}
      </Answer>
    </Stack>
  );
}
