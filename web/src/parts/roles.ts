import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { useSession } from '../session';

/** The roles there are: built-in ones go by their name, which is translated, the workspace's own by their id. */
export function useRoles() {
  const { t } = useTranslation();
  const { may } = useSession();
  const roles = useQuery({ queryKey: ['roles'], queryFn: () => data(api.GET('/api/v1/tenant/roles')), enabled: may('role:read') });
  const all = roles.data?.data ?? [];
  const name = (role: string) => (['owner', 'admin', 'analyst', 'viewer', 'billing'].includes(role) ? t(`role.${role}` as 'role.owner') : (all.find((r) => r.id === role)?.name ?? role));
  const choices = all.map((r) => ({ value: r.built_in ? r.name : r.id, label: r.built_in ? name(r.name) : r.name }));
  return { own: all.filter((r) => !r.built_in), loaded: roles.isSuccess, name, choices };
}
