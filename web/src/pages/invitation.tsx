import { Button, Checkbox, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useLocation, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

/** Where the link of an invitation leads. Its secret stands after the #, which browsers keep from servers. */
export function Invitation() {
  const { t, i18n } = useTranslation();
  const { hash: token } = useLocation();
  const { me, enter } = useSession();
  const navigate = useNavigate();
  const [form, setForm] = useState({ full_name: '', password: '', accept_terms: false });
  const info = useQuery({ queryKey: ['invitation', token], queryFn: () => data(api.POST('/api/v1/invitations/look', { body: { token } })), retry: false });
  const join = useMutation({
    mutationFn: async () => {
      if (me) {
        await data(api.POST('/api/v1/invitations/accept', { body: { token } }));
        const { tenants } = await data(api.GET('/api/v1/me'));
        const joined = tenants.find((tenant) => !me.tenants.some((old) => old.id === tenant.id));
        if (joined) await enter(await data(api.POST('/api/v1/auth/switch', { body: { tenant_id: joined.id } })));
      } else {
        const { access_token } = await data(api.POST('/api/v1/invitations/join', { body: { ...form, token, locale: i18n.language === 'zh-CN' ? 'zh-CN' : 'en' } }));
        if (access_token) await enter({ access_token });
      }
      await navigate({ to: '/app' });
    },
  });
  const problem = join.error instanceof Problem ? join.error : null;
  return (
    <Stack maw={420} mx="auto">
      <Title order={1} size="h2">
        {t('invitation.title')}
      </Title>
      <Answer of={info}>
        {(i) => (
          <form
            onSubmit={(e) => {
              e.preventDefault();
              join.mutate();
            }}
          >
            <Stack>
              <Text>{t('invitation.text', { tenant: i.tenant, email: i.email })}</Text>
              {!me && (
                <>
                  <TextInput label={t('field.name')} autoComplete="name" required value={form.full_name} onChange={(e) => setForm({ ...form, full_name: e.currentTarget.value })} error={problem?.fields.full_name} />
                  <PasswordInput
                    label={t('field.password')}
                    description={t('field.passwordRule')}
                    autoComplete="new-password"
                    required
                    value={form.password}
                    onChange={(e) => setForm({ ...form, password: e.currentTarget.value })}
                    error={problem?.fields.password}
                    visibilityToggleButtonProps={{ 'aria-label': t('field.showPassword') }}
                  />
                  <Checkbox required checked={form.accept_terms} onChange={(e) => setForm({ ...form, accept_terms: e.currentTarget.checked })} label={`${t('signUp.accept')} ${t('nav.terms')}`} />
                </>
              )}
              {join.isError && <Refusal error={join.error} />}
              <Button type="submit" loading={join.isPending}>
                {t('invitation.accept')}
              </Button>
            </Stack>
          </form>
        )}
      </Answer>
    </Stack>
  );
}
