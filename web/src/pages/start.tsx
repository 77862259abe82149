import { Button, Card, Group, Progress, SimpleGrid, Stack, Text, ThemeIcon, Title } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { IconCheck, IconCircle } from '@tabler/icons-react';
import { Link, useNavigate } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { Page } from '../parts/page';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

/** Where one lands: the next step, and what is left of the plan. */
export function Start() {
  const { t } = useTranslation();
  const { me, may } = useSession();
  const navigate = useNavigate();
  const cache = useQueryClient();
  const datasets = useQuery({ queryKey: ['datasets'], queryFn: () => data(api.GET('/api/v1/datasets')) });
  const usage = useQuery({ queryKey: ['usage'], queryFn: () => data(api.GET('/api/v1/usage')), enabled: may('usage:read') });
  const sample = useMutation({
    mutationFn: async () => {
      const { data: lists } = await data(api.GET('/api/v1/catalog'));
      const first = lists[0];
      if (first) await data(api.POST('/api/v1/catalog/{slug}/subscribe', { params: { path: { slug: first.slug } } }));
      await cache.invalidateQueries({ queryKey: ['datasets'] });
      await navigate({ to: '/app/match' });
    },
  });
  const matched = usage.data?.data.some((m) => m.meter === 'match' && m.used > 0) ?? false;
  const steps = [
    { done: (datasets.data?.data.length ?? 0) > 0, label: t('start.list') },
    { done: matched, label: t('start.match') },
  ];
  return (
    <Page title={t('start.title', { name: me?.user?.full_name ?? '' })}>
      {!steps.every((s) => s.done) && (
        <Card withBorder padding="lg">
          <Stack gap="sm">
            <Title order={2} size="h4">
              {t('start.next')}
            </Title>
            {steps.map((s) => (
              <Group key={s.label} gap="xs">
                <ThemeIcon size="sm" radius="xl" variant={s.done ? 'filled' : 'default'} aria-hidden>
                  {s.done ? <IconCheck size={12} /> : <IconCircle size={10} />}
                </ThemeIcon>
                <Text>{s.label}</Text>
              </Group>
            ))}
            {sample.isError && <Refusal error={sample.error} />}
            <Group>
              {steps[0]?.done ? (
                <Button component={Link} to="/app/match">
                  {t('start.toMatch')}
                </Button>
              ) : (
                <>
                  <Button onClick={() => sample.mutate()} loading={sample.isPending}>
                    {t('start.sample')}
                  </Button>
                  <Button variant="default" component={Link} to="/app/datasets">
                    {t('start.upload')}
                  </Button>
                </>
              )}
            </Group>
          </Stack>
        </Card>
      )}
      {may('usage:read') && (
        <Answer of={usage}>
          {(u) => (
            <SimpleGrid cols={{ base: 1, sm: 2, md: 4 }}>
              {u.data
                .filter((m) => ['match', 'datasets', 'dataset_rows', 'relations_deep'].includes(m.meter))
                .map((m) => (
                  <Card withBorder key={m.meter} padding="md">
                    <Text size="sm" c="dimmed">
                      {t(`meter.${m.meter}` as 'meter.match')}
                    </Text>
                    <Text fw={650}>
                      {format.number(m.used)}
                      {m.limit !== null && ` / ${format.number(m.limit)}`}
                    </Text>
                    {m.limit !== null && <Progress value={m.limit > 0 ? (m.used / m.limit) * 100 : 0} mt={6} aria-label={t(`meter.${m.meter}` as 'meter.match')} />}
                  </Card>
                ))}
            </SimpleGrid>
          )}
        </Answer>
      )}
    </Page>
  );
}
