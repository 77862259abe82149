import { Button, Card, Code, Group, NumberInput, Select, Stack, Switch, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

export function Workspace() {
  const { t } = useTranslation();
  const tenant = useQuery({ queryKey: ['tenant'], queryFn: () => data(api.GET('/api/v1/tenant')) });
  return (
    <Page title={t('nav.workspace')} text={t('workspace.text')}>
      <Answer of={tenant}>
        {(d) => (
          <>
            <Settings key={d.updated_at} details={d} />
            <Domains list={d.domains} />
          </>
        )}
      </Answer>
    </Page>
  );
}

function Settings({ details }: { details: Schema<'Details'> }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const [name, setName] = useState(details.name);
  const [slug, setSlug] = useState(details.slug);
  const [locale, setLocale] = useState<'en' | 'zh-CN'>(details.locale === 'zh-CN' ? 'zh-CN' : 'en');
  const [days, setDays] = useState<number | string>(details.settings.audit_retention_days);
  const [residency, setResidency] = useState(details.settings.residency);
  const [support, setSupport] = useState(details.settings.support_access !== 'forbidden');
  const save = useAct(() => data(api.PATCH('/api/v1/tenant', { body: { name, slug, locale, settings: { ...details.settings, audit_retention_days: Number(days), residency, support_access: support ? 'allowed' : 'forbidden' } } })), { refresh: ['tenant', 'me'], said: t('workspace.saved') });
  const problem = save.error instanceof Problem ? save.error : null;
  const fixed = !may('tenant:write');
  return (
    <Card withBorder padding="lg" maw={640}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate();
        }}
      >
        <Stack>
          <TextInput label={t('field.title')} required value={name} onChange={(e) => setName(e.currentTarget.value)} readOnly={fixed} error={problem?.fields.name} />
          <TextInput label={t('workspace.slug')} description={t('workspace.slugText')} required value={slug} onChange={(e) => setSlug(e.currentTarget.value)} readOnly={fixed} error={problem?.fields.slug} />
          <Select label={t('account.language')} value={locale} onChange={(v) => setLocale(v === 'zh-CN' ? 'zh-CN' : 'en')} data={[{ value: 'en', label: 'English' }, { value: 'zh-CN', label: '简体中文' }]} allowDeselect={false} readOnly={fixed} />
          <NumberInput label={t('workspace.retention')} description={t('workspace.retentionText')} min={30} max={3650} allowDecimal={false} value={days} onChange={setDays} readOnly={fixed} error={problem?.fields['settings.audit_retention_days']} />
          <TextInput label={t('workspace.residency')} description={t('workspace.residencyText')} maxLength={40} value={residency} onChange={(e) => setResidency(e.currentTarget.value)} readOnly={fixed} error={problem?.fields['settings.residency']} />
          <Switch label={t('workspace.support')} description={t('workspace.supportText')} checked={support} onChange={(e) => setSupport(e.currentTarget.checked)} disabled={fixed} />
          {save.isError && <Refusal error={save.error} />}
          {!fixed && (
            <Button type="submit" loading={save.isPending} w="fit-content">
              {t('action.save')}
            </Button>
          )}
        </Stack>
      </form>
    </Card>
  );
}

function Domains({ list }: { list: Schema<'Domain'>[] }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState('');
  const add = useAct(() => data(api.POST('/api/v1/tenant/domains', { body: { name } })), {
    refresh: ['tenant'],
    done: () => {
      setAdding(false);
      setName('');
    },
  });
  const verify = useAct((id: string) => data(api.POST('/api/v1/tenant/domains/{id}/verify', { params: { path: { id } } })), { refresh: ['tenant'] });
  const remove = useAct((id: string) => data(api.DELETE('/api/v1/tenant/domains/{id}', { params: { path: { id } } })), { refresh: ['tenant'] });
  const problem = add.error instanceof Problem ? add.error : null;
  return (
    <Section title={t('domains.title')} text={t('domains.text')} action={may('tenant:write') && <Button onClick={() => setAdding(true)}>{t('domains.add')}</Button>}>
      {(verify.isError || remove.isError) && <Refusal error={verify.error ?? remove.error} />}
      {list.map((d) => (
        <Card withBorder key={d.id}>
          <Stack gap="xs">
            <Group justify="space-between">
              <Group gap="sm">
                <Text fw={600}>{d.name}</Text>
                <Mark color={d.status === 'verified' ? 'green' : 'gray'}>{t(`domains.${d.status}`)}</Mark>
              </Group>
              {may('tenant:write') && (
                <Group gap="xs">
                  {d.status !== 'verified' && (
                    <Button size="xs" onClick={() => verify.mutate(d.id)} loading={verify.isPending && verify.variables === d.id}>
                      {t('domains.verify')}
                    </Button>
                  )}
                  <Button size="xs" variant="default" onClick={() => remove.mutate(d.id)} aria-label={t('domains.removeOne', { name: d.name })}>
                    {t('team.remove')}
                  </Button>
                </Group>
              )}
            </Group>
            {d.status !== 'verified' && (
              <>
                <Text size="sm">{t('domains.record')}</Text>
                <Code block tabIndex={0}>{`${d.record} TXT "${d.value}"`}</Code>
              </>
            )}
          </Stack>
        </Card>
      ))}
      <FormDialog opened={adding} close={() => setAdding(false)} title={t('domains.add')} submit={() => add.mutate()} doing={add} label={t('domains.add')} ready={name.trim() !== ''}>
        <TextInput label={t('domains.name')} placeholder="match.example.org" value={name} onChange={(e) => setName(e.currentTarget.value)} error={problem?.fields.name} data-autofocus />
      </FormDialog>
    </Section>
  );
}
