import { ActionIcon, Indicator } from '@mantine/core';
import { IconBell } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { useSession } from '../session';

/** How much the reader has not read; asked anew once a minute while the page is looked at. */
export function Bell() {
  const { t } = useTranslation();
  const { me } = useSession();
  const count = useQuery({
    queryKey: ['notifications', 'unread'],
    queryFn: () => data(api.GET('/api/v1/me/notifications/unread')),
    enabled: !me?.impersonation, // they are the person's own
    refetchInterval: 60_000,
    retry: false,
  });
  const unread = count.data?.unread ?? 0;
  return (
    <Indicator disabled={unread === 0} label={unread > 99 ? '99+' : format.number(unread)} size={16} color="red.8" offset={4}>
      <ActionIcon component={Link} to="/app/notifications" variant="default" size="lg" aria-label={unread > 0 ? t('notice.bell', { count: unread }) : t('nav.notifications')}>
        <IconBell size={18} />
      </ActionIcon>
    </Indicator>
  );
}
