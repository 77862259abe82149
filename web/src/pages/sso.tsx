// What is yet to be done after another provider has said who somebody is: to
// show a code, to open a workspace, or to agree that it may sign them in.
import { Button, Checkbox, Stack, Text, TextInput, Title } from '@mantine/core';
import { useLocation, useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { useAct } from '../parts/act';
import { Refusal } from '../parts/states';
import { useSession } from '../session';

export function Sso() {
  const { t, i18n } = useTranslation();
  const { step, return_to } = useSearch({ from: '/site/sso' });
  const { hash: ticket } = useLocation();
  const { me, enter } = useSession();
  const navigate = useNavigate();
  const [code, setCode] = useState('');
  const [form, setForm] = useState({ full_name: '', workspace_name: '', accept_terms: false });
  const locale = i18n.language === 'zh-CN' ? 'zh-CN' : 'en';
  useEffect(() => {
    document.title = `${t('nav.signIn')} · ChainReactions`;
  }, [t]);
  const go = useAct(async () => {
    if (step === 'code') await enter(await data(api.POST('/api/v1/auth/sso/code', { body: { ticket, ...(/^\d{6}$/.test(code) ? { totp: code } : { recovery_code: code }) } })));
    else if (step === 'signup') {
      const { access_token } = await data(api.POST('/api/v1/auth/sso/signup', { body: { ...form, ticket, locale } }));
      if (access_token) await enter({ access_token });
    } else await data(api.POST('/api/v1/auth/identities', { body: { ticket } }));
    await navigate({ href: return_to ?? '/app' });
  });
  const problem = go.error instanceof Problem ? go.error : null;
  const link = step === 'link';
  return (
    <Stack maw={420} mx="auto">
      <Title order={1} size="h2">
        {t(`sso.${step}`)}
      </Title>
      <Text size="sm">{t(link && !me ? 'sso.linkSignIn' : `sso.${step}Text`)}</Text>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (link && !me) void navigate({ to: '/sign-in', search: { next: `/sso${location.search}#${ticket}` } });
          else go.mutate();
        }}
      >
        <Stack>
          {step === 'code' && <TextInput label={t('signIn.code')} autoComplete="one-time-code" required value={code} onChange={(e) => setCode(e.currentTarget.value.normalize('NFKC').trim())} autoFocus />}
          {step === 'signup' && (
            <>
              <TextInput label={t('field.name')} autoComplete="name" value={form.full_name} onChange={(e) => setForm({ ...form, full_name: e.currentTarget.value })} error={problem?.fields.full_name} />
              <TextInput label={t('field.workspace')} required value={form.workspace_name} onChange={(e) => setForm({ ...form, workspace_name: e.currentTarget.value })} error={problem?.fields.workspace_name} />
              <Checkbox required checked={form.accept_terms} onChange={(e) => setForm({ ...form, accept_terms: e.currentTarget.checked })} label={`${t('signUp.accept')} ${t('nav.terms')}`} />
            </>
          )}
          {go.isError && <Refusal error={go.error} />}
          <Button type="submit" loading={go.isPending}>
            {t(link && !me ? 'nav.signIn' : 'stepUp.submit')}
          </Button>
        </Stack>
      </form>
    </Stack>
  );
}
