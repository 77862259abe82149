import { Button, Group, Stack, Text, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { PlanCards, usePrices, type Plan } from '../parts/plans';
import { Answer } from '../parts/states';

export function Plans() {
  const { t } = useTranslation();
  useEffect(() => {
    document.title = `${t('nav.plans')} · ChainReactions`;
  }, [t]);
  const plans = useQuery({ queryKey: ['plans'], queryFn: () => data(api.GET('/api/v1/plans')) });
  return (
    <Stack gap="lg">
      <div>
        <Title order={1}>{t('plans.title')}</Title>
        <Text c="dimmed">{t('plans.text')}</Text>
      </div>
      <Answer of={plans}>{(page) => <Priced plans={page.data} />}</Answer>
    </Stack>
  );
}

function Priced({ plans }: { plans: Plan[] }) {
  const { t } = useTranslation();
  const { interval, currency, choice } = usePrices(plans);
  return (
    <>
      <Group justify="flex-end">{choice}</Group>
      <PlanCards
        plans={plans}
        interval={interval}
        currency={currency}
        act={(plan) => (
          <Button component={Link} to="/sign-up" mt="auto" variant={plan.name === 'free' ? 'filled' : 'default'}>
            {t('plans.choose')}
          </Button>
        )}
      />
    </>
  );
}
