import { Badge, Button, Card, Group, List, NumberInput, Select, SimpleGrid, Stack, TagsInput, Text, TextInput, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { useTitle } from '../parts/plans';
import { Answer, Refusal } from '../parts/states';

type State = Schema<'PlanState'>;
type Plan = Schema<'Plan'>;
const refresh = ['admin', 'plans'];

/** Plans are written as drafts and published as versions; nobody's plan changes under them. */
export function PlanCatalogue() {
  const { t } = useTranslation();
  const [writing, setWriting] = useState<{ name: string; from: Plan } | null>(null);
  const plans = useQuery({ queryKey: ['admin', 'plans'], queryFn: () => data(api.GET('/api/v1/admin/plans')) });
  const publish = useAct((name: string) => data(api.POST('/api/v1/admin/plans/{name}/publish', { params: { path: { name } } })), { refresh, said: t('admin.published') });
  const archive = useAct((name: string) => data(api.POST('/api/v1/admin/plans/{name}/archive', { params: { path: { name } } })), { refresh });
  const forget = useAct((name: string) => data(api.DELETE('/api/v1/admin/plans/{name}/draft', { params: { path: { name } } })), { refresh });
  const sync = useAct((dry_run: boolean) => data(api.POST('/api/v1/admin/plans/sync', { body: { dry_run } })));
  const failed = publish.error ?? archive.error ?? forget.error ?? sync.error;
  return (
    <Page
      title={t('admin.plans')}
      text={t('admin.plansText')}
      action={
        <Group gap="xs">
          <Button variant="default" onClick={() => sync.mutate(true)} loading={sync.isPending && sync.variables}>
            {t('admin.syncDry')}
          </Button>
          <Button variant="default" onClick={() => sync.mutate(false)} loading={sync.isPending && !sync.variables}>
            {t('admin.sync')}
          </Button>
        </Group>
      }
    >
      {failed && <Refusal error={failed} />}
      {sync.data && (
        <Card withBorder aria-live="polite">
          <Text fw={600}>{t('admin.changes', { count: sync.data.changes.length })}</Text>
          <List size="sm">
            {sync.data.changes.map((c) => (
              <List.Item key={c}>{c}</List.Item>
            ))}
          </List>
        </Card>
      )}
      <Answer of={plans}>
        {(page) => (
          <Stack>
            {page.data.map((p) => (
              <One key={p.name} plan={p} write={(from) => setWriting({ name: p.name, from })} publish={() => publish.mutate(p.name)} archive={() => archive.mutate(p.name)} forget={() => forget.mutate(p.name)} />
            ))}
          </Stack>
        )}
      </Answer>
      {writing && <Draft {...writing} close={() => setWriting(null)} />}
    </Page>
  );
}

function One({ plan: p, write, publish, archive, forget }: { plan: State; write: (from: Plan) => void; publish: () => void; archive: () => void; forget: () => void }) {
  const { t } = useTranslation();
  const title = useTitle();
  const base = p.draft ?? p.published;
  const prices = (plan: Plan | undefined) => (plan?.prices ?? []).filter((x) => x.currency === 'usd').map((x) => `${format.money(x.amount, x.currency)} ${t(x.interval === 'year' ? 'plans.perYear' : 'plans.perMonth')}`).join(', ');
  return (
    <Card withBorder component="section" aria-label={p.name}>
      <Group justify="space-between" align="flex-start">
        <div>
          <Group gap="sm">
            <Title order={2} size="h4">
              {title(base) || p.name}
            </Title>
            <Mark>{t(`planState.${p.status}`)}</Mark>
            {p.draft && <Badge variant="default">{t('admin.hasDraft')}</Badge>}
          </Group>
          <Text size="sm" c="dimmed">
            {t('admin.versionOf', { count: p.tenants, version: p.current, tenants: format.number(p.tenants) })}
          </Text>
          <Text size="sm">{prices(p.published)}</Text>
          {p.draft && <Text size="sm">{t('admin.draftSays', { prices: prices(p.draft) || '–', matches: format.number(p.draft.quotas.match ?? 0) })}</Text>}
        </div>
        <Group gap="xs">
          {base && (
            <Button size="xs" variant="default" onClick={() => write(base)} aria-label={t('admin.writeOne', { plan: p.name })}>
              {t('admin.write')}
            </Button>
          )}
          {p.draft && (
            <>
              <Button size="xs" onClick={publish} aria-label={t('admin.publishOne', { plan: p.name })}>
                {t('admin.publish')}
              </Button>
              <Button size="xs" variant="default" onClick={forget}>
                {t('admin.forget')}
              </Button>
            </>
          )}
          {p.status === 'published' && p.name !== 'free' && (
            <Button size="xs" variant="default" onClick={archive} aria-label={t('admin.archiveOne', { plan: p.name })}>
              {t('admin.archive')}
            </Button>
          )}
        </Group>
      </Group>
    </Card>
  );
}

function Draft({ name, from, close }: { name: string; from: Plan; close: () => void }) {
  const { t } = useTranslation();
  const [draft, setDraft] = useState<Schema<'BillingSaveDraftBody'>>({ title: from.title, quotas: from.quotas, levels: from.levels, rates: from.rates, features: from.features, prices: from.prices ?? [], ...(from.overage ? { overage: from.overage } : {}) });
  const save = useAct(() => data(api.PUT('/api/v1/admin/plans/{name}/draft', { params: { path: { name } }, body: draft })), { refresh, said: t('admin.kept'), done: close });
  const problem = save.error instanceof Problem ? save.error : null;
  const figures = (kind: 'quotas' | 'levels' | 'rates') => (
    <SimpleGrid cols={2}>
      {Object.entries(draft[kind]).map(([key, value]) => (
        <NumberInput key={key} label={kind === 'rates' ? t('admin.rateOf', { name: key }) : t(`meter.${key}` as 'meter.match', { defaultValue: key })} min={-1} allowDecimal={false} value={value} onChange={(v) => setDraft({ ...draft, [kind]: { ...draft[kind], [key]: Number(v) } })} error={problem?.fields[`${kind}.${key}`]} />
      ))}
    </SimpleGrid>
  );
  const prices = draft.prices ?? [];
  const setPrice = (i: number, change: Partial<Schema<'PlanPrice'>>) => setDraft({ ...draft, prices: prices.map((p, j) => (j === i ? { ...p, ...change } : p)) });
  return (
    <FormDialog opened close={close} title={t('admin.writeOne', { plan: name })} size="lg" submit={() => save.mutate()} doing={save} label={t('admin.keep')}>
      <Text size="sm">{t('admin.draftText')}</Text>
      <Group grow>
        <TextInput label="English" value={draft.title.en} onChange={(e) => setDraft({ ...draft, title: { ...draft.title, en: e.currentTarget.value } })} />
        <TextInput label="简体中文" value={draft.title['zh-CN']} onChange={(e) => setDraft({ ...draft, title: { ...draft.title, 'zh-CN': e.currentTarget.value } })} />
      </Group>
      <Title order={3} size="h5">
        {t('admin.quotas')}
      </Title>
      {figures('quotas')}
      <Title order={3} size="h5">
        {t('admin.levels')}
      </Title>
      {figures('levels')}
      <Title order={3} size="h5">
        {t('admin.rates')}
      </Title>
      {figures('rates')}
      <TagsInput label={t('admin.features')} value={draft.features ?? []} onChange={(features) => setDraft({ ...draft, features })} />
      <Title order={3} size="h5">
        {t('admin.prices')}
      </Title>
      {prices.map((p, i) => (
        <Group key={i} gap="xs" wrap="nowrap">
          <TextInput aria-label={t('plans.currency')} w={80} maxLength={3} value={p.currency} onChange={(e) => setPrice(i, { currency: e.currentTarget.value.toLowerCase() })} />
          <Select aria-label={t('plans.interval')} w={110} allowDeselect={false} value={p.interval} onChange={(v) => setPrice(i, { interval: v === 'year' ? 'year' : 'month' })} data={[{ value: 'month', label: t('plans.monthly') }, { value: 'year', label: t('plans.yearly') }]} />
          <NumberInput aria-label={t('admin.minor', { currency: p.currency.toUpperCase() })} min={0} allowDecimal={false} value={p.amount} onChange={(v) => setPrice(i, { amount: Number(v) })} />
          <Button size="xs" variant="default" onClick={() => setDraft({ ...draft, prices: prices.filter((_, j) => j !== i) })} aria-label={t('admin.takeOne', { name: `${p.currency} ${p.interval}` })}>
            {t('team.remove')}
          </Button>
        </Group>
      ))}
      <Button variant="default" w="fit-content" onClick={() => setDraft({ ...draft, prices: [...prices, { currency: 'usd', interval: 'month', amount: 0 }] })}>
        {t('admin.addPrice')}
      </Button>
    </FormDialog>
  );
}
