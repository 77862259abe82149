import { Alert, Anchor, Group, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { useSession } from '../session';

/** What is owed, on every page, with the one thing to do about it. */
export function Dunning() {
  const { t } = useTranslation();
  const { may } = useSession();
  const standing = useQuery({ queryKey: ['subscription'], queryFn: () => data(api.GET('/api/v1/billing/subscription')), enabled: may('billing:read'), staleTime: 60_000 });
  const s = standing.data;
  const sub = s?.subscription;
  if (!s || (!s.read_only && sub?.status !== 'past_due' && sub?.status !== 'incomplete')) return null;
  return (
    <Alert color="red" mb="md" title={t(s.read_only ? 'dunning.readOnly' : 'dunning.owed')}>
      <Group gap="md">
        {sub?.grace_until && !s.read_only && <Text size="sm">{t('dunning.until', { date: format.date(sub.grace_until) })}</Text>}
        {sub?.pay_url ? (
          <Anchor href={sub.pay_url} fw={600} underline="always">
            {t('dunning.pay')}
          </Anchor>
        ) : (
          <Anchor component={Link} to="/app/billing" fw={600} underline="always">
            {t('nav.billing')}
          </Anchor>
        )}
      </Group>
    </Alert>
  );
}
