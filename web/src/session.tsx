// Who is signed in, and in which tenant.
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { createContext, use, useCallback, useMemo, type ReactNode } from 'react';
import { api, data, hasToken, mayBeSignedIn, renew, setActing, setToken, type Schema } from './api';
import i18n from './i18n';

export interface Session {
  me: Schema<'MeResponse'> | null;
  tenant: Schema<'TenantRole'> | null;
  ready: boolean;
  unknown: { error: Error; retry: () => void } | null; // the server does not say who is signed in
  may: (permission: string) => boolean;
  enter: (tokens: { access_token: string }) => Promise<void>;
  leave: () => Promise<void>;
}

const Context = createContext<Session | null>(null);

export const useSession = (): Session => {
  const session = use(Context);
  if (!session) throw new Error('useSession outside of SessionProvider');
  return session;
};

/** Reads who is signed in, from the refresh cookie where the page was just loaded. */
async function whoAmI(): Promise<Schema<'MeResponse'> | null> {
  if (!mayBeSignedIn()) return null;
  if (!hasToken() && !(await renew())) return null;
  return data(api.GET('/api/v1/me'));
}

export function SessionProvider({ children }: { children: ReactNode }) {
  const cache = useQueryClient();
  const me = useQuery({ queryKey: ['me'], queryFn: whoAmI, staleTime: 60_000, retry: false });

  const enter = useCallback(
    async (tokens: { access_token: string }) => {
      setToken(tokens.access_token);
      const now = await whoAmI();
      setActing(Boolean(now?.impersonation));
      cache.removeQueries({ predicate: (q) => q.queryKey[0] !== 'me' }); // nothing of the tenant before
      cache.setQueryData(['me'], now);
      if (now?.user && !now.impersonation) await i18n.changeLanguage(now.user.locale === 'zh-CN' ? 'zh-CN' : 'en');
    },
    [cache],
  );
  const leave = useCallback(async () => {
    await api.POST('/api/v1/auth/logout').catch(() => undefined);
    setToken(null);
    cache.removeQueries({ predicate: (q) => q.queryKey[0] !== 'me' });
    cache.setQueryData(['me'], null);
  }, [cache]);

  const { data: who = null, isPending, error, refetch } = me;
  const value = useMemo<Session>(
    () => ({
      me: who,
      tenant: who?.tenants.find((t) => t.id === who.tenant_id) ?? null,
      ready: !isPending,
      unknown: error && !who ? { error, retry: () => void refetch() } : null,
      may: (permission) => who?.permissions.includes(permission) ?? false,
      enter,
      leave,
    }),
    [who, isPending, error, refetch, enter, leave],
  );
  return <Context value={value}>{children}</Context>;
}
