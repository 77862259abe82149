import { Alert, Button, Group, Text } from '@mantine/core';
import { useNavigate } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';
import { api, data, renew, setActing } from '../api';
import { format } from '../i18n';
import { useSession } from '../session';
import { useAct } from './act';
import { Refusal } from './states';

/** Tells an administrator on every page in whose name they act, and ends it. */
export function Acting() {
  const { t } = useTranslation();
  const { me, tenant, enter } = useSession();
  const navigate = useNavigate();
  const acting = me?.impersonation;
  const end = useAct(async () => {
    if (!acting) return;
    setActing(false);
    await renew(); // with the cookie, which is the administrator's own
    await data(api.DELETE('/api/v1/admin/impersonations/{id}', { params: { path: { id: acting.id } } }));
    const own = await data(api.POST('/api/v1/auth/refresh', { body: {} }));
    await enter(own);
    await navigate({ to: '/app/admin/tenants' });
  });
  if (!acting) return null;
  return (
    <Alert color="orange" mb="md" title={t('acting.title', { person: me?.user?.email ?? '', tenant: tenant?.name ?? '' })}>
      <Group gap="md">
        <Text size="sm">{t('acting.until', { date: format.time(acting.expires_at), reason: acting.reason })}</Text>
        <Button size="xs" onClick={() => end.mutate()} loading={end.isPending}>
          {t('acting.end')}
        </Button>
        {end.isError && <Refusal error={end.error} />}
      </Group>
    </Alert>
  );
}
