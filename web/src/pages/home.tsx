import { Button, Card, Group, SimpleGrid, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { lazy, Suspense, useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { Refusal } from '../parts/states';

// Loaded with the first answer: the page itself does without a table.
const Quality = lazy(() => import('../parts/score').then((m) => ({ default: m.Quality })));
const Explained = lazy(() => import('../parts/score').then((m) => ({ default: m.Explained })));

const examples = ['Qinglan Univ. of Aerospce Technology', 'Institute of Applied Hydroacoustics, Northern', 'СКБ Вектор К', '青岚航天技术大学'];

/** The front page: what the product does, shown at once on a sample list. */
export function Home() {
  const { t } = useTranslation();
  const [name, setName] = useState(examples[0] ?? '');
  const demo = useMutation({ mutationFn: (query: string) => data(api.POST('/api/v1/demo/matches', { body: { name: query } })) });
  useEffect(() => {
    document.title = 'ChainReactions';
  }, []);
  return (
    <Stack gap={56}>
      <Stack gap="md" maw={760}>
        <Title order={1} fz={{ base: 32, sm: 46 }} lh={1.12}>
          {t('home.title')}
        </Title>
        <Text size="lg" c="dimmed">
          {t('home.text')}
        </Text>
        <Group>
          <Button component={Link} to="/sign-up" size="md">
            {t('home.start')}
          </Button>
          <Button component={Link} to="/plans" size="md" variant="default">
            {t('nav.plans')}
          </Button>
        </Group>
      </Stack>

      <Card withBorder padding="lg" component="section" aria-labelledby="try">
        <Stack gap="md">
          <div>
            <Title order={2} size="h3" id="try">
              {t('home.try')}
            </Title>
            <Text c="dimmed">{t('home.tryText')}</Text>
          </div>
          <form
            onSubmit={(e) => {
              e.preventDefault();
              if (name.trim()) demo.mutate(name.trim());
            }}
          >
            <Group align="flex-end">
              <TextInput label={t('match.name')} value={name} onChange={(e) => setName(e.currentTarget.value)} maxLength={200} flex={1} miw={220} />
              <Button type="submit" loading={demo.isPending}>
                {t('action.match')}
              </Button>
            </Group>
          </form>
          <Group gap="xs">
            {examples.map((example) => (
              <Button
                key={example}
                size="compact-sm"
                variant="default"
                onClick={() => {
                  setName(example);
                  demo.mutate(example);
                }}
              >
                {example}
              </Button>
            ))}
          </Group>
          <div aria-live="polite">
            {demo.isError && <Refusal error={demo.error} />}
            {demo.data?.matches.length === 0 && <Text>{t('match.none')}</Text>}
            <Suspense>
              {demo.data?.matches.map((m) => (
                <Card key={m.entry.id} withBorder mt="sm">
                  <Group justify="space-between" mb="xs">
                    <Text fw={600}>{m.entry.name}</Text>
                    <Quality match={m} />
                  </Group>
                  <Explained match={m} />
                </Card>
              ))}
            </Suspense>
          </div>
        </Stack>
      </Card>

      <SimpleGrid cols={{ base: 1, sm: 3 }} spacing="xl">
        {(['match', 'evidence', 'control'] as const).map((point) => (
          <div key={point}>
            <Title order={2} size="h4">
              {t(`home.${point}`)}
            </Title>
            <Text c="dimmed">{t(`home.${point}Text`)}</Text>
          </div>
        ))}
      </SimpleGrid>
    </Stack>
  );
}
