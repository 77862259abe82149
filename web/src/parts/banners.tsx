import { Alert, Anchor, Group, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { useSession } from '../session';

const urgent = ['read_only', 'payment_failed', 'payment_needed', 'paused'];

/** What the bills and the quotas ask of the reader, on every page, each with the one thing to do about it. */
export function Banners() {
  const { may } = useSession();
  const standing = useQuery({ queryKey: ['subscription'], queryFn: () => data(api.GET('/api/v1/billing/subscription')), enabled: may('billing:read'), staleTime: 60_000 });
  return standing.data?.banners.map((b) => <Banner key={`${b.code} ${b.meter ?? ''}`} banner={b} />);
}

function Banner({ banner: b }: { banner: Schema<'Banner'> }) {
  const { t } = useTranslation();
  const title = b.code === 'usage' ? t('banner.usage', { percent: format.percent((b.percent ?? 0) / 100), meter: t(`meter.${b.meter}` as 'meter.match') }) : t(`banner.${b.code}`);
  return (
    <Alert color={urgent.includes(b.code) || (b.percent ?? 0) >= 100 ? 'red' : 'orange'} mb="md" title={title}>
      <Group gap="md">
        {b.until && <Text size="sm">{t(b.code === 'usage' ? 'banner.resets' : 'banner.until', { date: format.date(b.until) })}</Text>}
        {b.action !== 'none' &&
          (b.action === 'pay' && b.url ? (
            <Anchor href={b.url} fw={600} underline="always">
              {t('banner.pay')}
            </Anchor>
          ) : (
            <Anchor component={Link} to="/app/billing" fw={600} underline="always">
              {t(`banner.${b.action}`)}
            </Anchor>
          ))}
      </Group>
    </Alert>
  );
}
