import { Button, Card, Group, NumberInput, Select, SimpleGrid, Stack, Text, TextInput } from '@mantine/core';
import { DateInput } from '../parts/date';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useParams } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Reasoned } from '../parts/reason';
import { Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

const refresh = ['admin'];

export function Tenant() {
  const { t } = useTranslation();
  const { id } = useParams({ from: '/app/admin/tenants/$id' });
  const path = { params: { path: { id } } };
  const details = useQuery({ queryKey: ['admin', 'tenant', id], queryFn: () => data(api.GET('/api/v1/admin/tenants/{id}', path)) });
  const account = useQuery({ queryKey: ['admin', 'account', id], queryFn: () => data(api.GET('/api/v1/admin/tenants/{id}/account', path)) });
  return (
    <Answer of={details} title={t('admin.tenants')}>
      {(d) => (
        <Head details={d}>
          <Answer of={account}>{(a) => <Money id={id} account={a} />}</Answer>
          <Invoices id={id} />
          <People id={id} />
        </Head>
      )}
    </Answer>
  );
}

function Head({ details: d, children }: { details: Schema<'AdminDetails'>; children: React.ReactNode }) {
  const { t } = useTranslation();
  const [asked, setAsked] = useState<'suspend' | 'reactivate' | null>(null);
  const act = useAct(
    (reason: string) => data(asked === 'suspend' ? api.POST('/api/v1/admin/tenants/{id}/suspend', { params: { path: { id: d.id } }, body: { reason } }) : api.POST('/api/v1/admin/tenants/{id}/reactivate', { params: { path: { id: d.id } }, body: { reason } })),
    { refresh, done: () => setAsked(null) },
  );
  return (
    <Page
      title={d.name || d.slug}
      text={`${d.slug} · ${d.id}`}
      action={
        <Button variant="default" onClick={() => setAsked(d.status === 'active' ? 'suspend' : 'reactivate')}>
          {t(d.status === 'active' ? 'admin.suspend' : 'admin.reactivate')}
        </Button>
      }
    >
      <Group gap="sm">
        <Mark color={d.status === 'active' ? 'green' : 'red'}>{t(`tenant.${d.status}`)}</Mark>
        <Text size="sm">{t('admin.peopleCount', { count: d.people })}</Text>
        <Text size="sm">{t('admin.sinceDate', { date: format.date(d.created_at) })}</Text>
        {d.settings.residency && <Text size="sm">{d.settings.residency}</Text>}
      </Group>
      {children}
      {asked && (
        <Reasoned title={t(asked === 'suspend' ? 'admin.suspendTitle' : 'admin.reactivateTitle', { name: d.name })} close={() => setAsked(null)} submit={act.mutate} doing={act} label={t(asked === 'suspend' ? 'admin.suspend' : 'admin.reactivate')} danger={asked === 'suspend'}>
          <Text size="sm">{t(asked === 'suspend' ? 'admin.suspendText' : 'admin.reactivateText')}</Text>
        </Reasoned>
      )}
    </Page>
  );
}

type Asked = 'plan' | 'override' | 'credit';

function Money({ id, account: a }: { id: string; account: Schema<'Account'> }) {
  const { t } = useTranslation();
  const [asked, setAsked] = useState<Asked | null>(null);
  const close = () => setAsked(null);
  const take = useAct((o: Schema<'Override'>) => data(api.DELETE('/api/v1/admin/tenants/{id}/overrides/{kind}/{name}', { params: { path: { id, kind: o.kind, name: o.name } } })), { refresh });
  return (
    <>
      <Section
        title={t('admin.plan')}
        action={
          <Group gap="xs">
            <Button variant="default" onClick={() => setAsked('plan')}>
              {t('admin.grant')}
            </Button>
            <Button variant="default" onClick={() => setAsked('override')}>
              {t('admin.override')}
            </Button>
            <Button variant="default" onClick={() => setAsked('credit')}>
              {t('admin.credit')}
            </Button>
          </Group>
        }
      >
        <Card withBorder>
          <Group gap="lg">
            <Text fw={650}>{a.plan}</Text>
            <Text size="sm">{t(`admin.${a.source}`)}</Text>
            {a.subscription && (
              <Text size="sm">
                {t(`subscription.${a.subscription.status}`)} · {format.money(a.subscription.unit_amount, a.subscription.currency)} × {format.number(a.subscription.quantity)}
              </Text>
            )}
            {a.customer && <Text size="sm">{a.customer}</Text>}
          </Group>
        </Card>
        <SimpleGrid cols={{ base: 2, sm: 3, lg: 5 }}>
          {a.usage.map((m) => (
            <div key={m.meter}>
              <Text size="sm" c="dimmed">
                {t(`meter.${m.meter}` as 'meter.match')}
              </Text>
              <Text size="sm" ff="monospace">
                {format.number(m.used)} / {m.limit === null ? t('usage.unlimited') : format.number(m.limit)}
              </Text>
            </div>
          ))}
        </SimpleGrid>
      </Section>
      {take.isError && <Refusal error={take.error} />}
      {a.overrides.length > 0 && (
        <Section title={t('admin.overrides')}>
          <Rows
            label={t('admin.overrides')}
            rows={a.overrides}
            id={(o) => `${o.kind} ${o.name}`}
            columns={[
              { label: t('admin.what'), show: (o) => `${t(`admin.kind.${o.kind}`)}: ${o.name}` },
              { label: t('admin.value'), show: (o) => (o.kind === 'feature' ? '–' : format.number(o.value)), end: true },
              { label: t('admin.until'), show: (o) => (o.expires_at ? format.date(o.expires_at) : '–') },
              { label: t('admin.reason'), show: (o) => `${o.reason} (${o.author})` },
              {
                label: t('field.actions'),
                show: (o) => (
                  <Button size="xs" variant="default" onClick={() => take.mutate(o)} aria-label={t('admin.takeOne', { name: o.name })}>
                    {t('team.remove')}
                  </Button>
                ),
              },
            ]}
          />
        </Section>
      )}
      {a.credits.length > 0 && (
        <Section title={t('admin.credits')}>
          <Rows
            label={t('admin.credits')}
            rows={a.credits}
            id={(c) => c.id}
            columns={[
              { label: t('billing.total'), show: (c) => format.money(c.amount, c.currency) },
              { label: t('billing.date'), show: (c) => format.time(c.created_at) },
              { label: t('admin.reason'), show: (c) => `${c.reason} (${c.author})` },
            ]}
          />
        </Section>
      )}
      {a.disputes.length > 0 && (
        <Section title={t('admin.disputes')}>
          <Rows
            label={t('admin.disputes')}
            rows={a.disputes}
            id={(d) => d.id}
            columns={[
              { label: t('billing.total'), show: (d) => format.money(d.amount, d.currency) },
              { label: t('research.state'), show: (d) => d.status },
              { label: t('admin.reason'), show: (d) => d.reason },
              { label: t('admin.until'), show: (d) => (d.due_by ? format.date(d.due_by) : '–') },
            ]}
          />
        </Section>
      )}
      {asked === 'plan' && <Grant id={id} now={a.plan} close={close} />}
      {asked === 'override' && <GiveOverride id={id} usage={a.usage} close={close} />}
      {asked === 'credit' && <GiveCredit id={id} currency={a.subscription?.currency ?? 'usd'} close={close} />}
    </>
  );
}

function Grant({ id, now, close }: { id: string; now: string; close: () => void }) {
  const { t } = useTranslation();
  const plans = useQuery({ queryKey: ['admin', 'plans'], queryFn: () => data(api.GET('/api/v1/admin/plans')) });
  const [plan, setPlan] = useState<string | null>(now);
  const grant = useAct((reason: string) => data(api.POST('/api/v1/admin/tenants/{id}/plan', { params: { path: { id } }, body: { plan: plan ?? now, reason } })), { refresh, said: t('admin.granted'), done: close });
  return (
    <Reasoned title={t('admin.grant')} close={close} submit={grant.mutate} doing={grant} label={t('admin.grant')} ready={plan !== null}>
      <Text size="sm">{t('admin.grantText')}</Text>
      <Select label={t('admin.plan')} value={plan} onChange={setPlan} allowDeselect={false} data={(plans.data?.data ?? []).filter((p) => p.status === 'published').map((p) => p.name)} />
    </Reasoned>
  );
}

function GiveOverride({ id, usage, close }: { id: string; usage: Schema<'MeterUsage'>[]; close: () => void }) {
  const { t } = useTranslation();
  const [kind, setKind] = useState<'quota' | 'level' | 'rate' | 'feature'>('quota');
  const [name, setName] = useState('match');
  const [value, setValue] = useState<number | string>(1000);
  const [until, setUntil] = useState('');
  const give = useAct(
    (reason: string) => data(api.POST('/api/v1/admin/tenants/{id}/overrides', { params: { path: { id } }, body: { kind, name, value: kind === 'feature' ? 1 : Number(value), reason, ...(until ? { expires_at: `${until}T00:00:00Z` } : {}) } })),
    { refresh, said: t('admin.given'), done: close },
  );
  const names = kind === 'quota' ? usage.filter((m) => m.resets_at).map((m) => m.meter) : kind === 'level' ? usage.filter((m) => !m.resets_at).map((m) => m.meter) : null;
  return (
    <Reasoned title={t('admin.override')} close={close} submit={give.mutate} doing={give} label={t('admin.override')} ready={name !== ''}>
      <Select
        label={t('admin.what')}
        value={kind}
        allowDeselect={false}
        onChange={(v) => {
          setKind(v as typeof kind);
          setName('');
        }}
        data={(['quota', 'level', 'rate', 'feature'] as const).map((k) => ({ value: k, label: t(`admin.kind.${k}`) }))}
      />
      {names ? (
        <Select label={t('field.title')} value={name || null} onChange={(v) => setName(v ?? '')} data={names.map((m) => ({ value: m, label: t(`meter.${m}` as 'meter.match') }))} />
      ) : (
        <TextInput label={t('field.title')} value={name} onChange={(e) => setName(e.currentTarget.value.trim())} />
      )}
      {kind !== 'feature' && <NumberInput label={t('admin.value')} min={-1} allowDecimal={false} value={value} onChange={setValue} />}
      <DateInput label={t('admin.untilOptional')} value={until} onChange={setUntil} />
    </Reasoned>
  );
}

function GiveCredit({ id, currency, close }: { id: string; currency: string; close: () => void }) {
  const { t } = useTranslation();
  const [amount, setAmount] = useState<number | string>('');
  const give = useAct((reason: string) => data(api.POST('/api/v1/admin/tenants/{id}/credits', { params: { path: { id } }, body: { amount: Number(amount), currency, reason } })), { refresh, said: t('admin.given'), done: close });
  return (
    <Reasoned title={t('admin.credit')} close={close} submit={give.mutate} doing={give} label={t('admin.credit')} ready={Number(amount) > 0}>
      <NumberInput label={t('admin.minor', { currency: currency.toUpperCase() })} description={Number(amount) > 0 ? format.money(Number(amount), currency) : undefined} min={1} allowDecimal={false} value={amount} onChange={setAmount} />
    </Reasoned>
  );
}

function Invoices({ id }: { id: string }) {
  const { t } = useTranslation();
  const [back, setBack] = useState<Schema<'Invoice'> | null>(null);
  const [amount, setAmount] = useState<number | string>('');
  const invoices = useQuery({ queryKey: ['admin', 'invoices', id], queryFn: () => data(api.GET('/api/v1/admin/tenants/{id}/invoices', { params: { path: { id } } })) });
  const refund = useAct((reason: string) => data(api.POST('/api/v1/admin/tenants/{id}/refunds', { params: { path: { id } }, body: { invoice: back?.id ?? '', amount: Number(amount), reason } })), { refresh, said: t('admin.refunded'), done: () => setBack(null) });
  return (
    <Section title={t('billing.invoices')}>
      <Answer of={invoices}>
        {(page) =>
          page.data.length === 0 ? (
            <Text c="dimmed">{t('billing.noInvoices')}</Text>
          ) : (
            <Rows
              label={t('billing.invoices')}
              rows={page.data}
              id={(i) => i.id}
              columns={[
                { label: t('billing.number'), show: (i) => i.number || i.id },
                { label: t('billing.date'), show: (i) => format.date(i.created_at) },
                { label: t('research.state'), show: (i) => t(`invoiceState.${i.status}`) },
                { label: t('billing.total'), show: (i) => format.money(i.total, i.currency), end: true },
                { label: t('admin.back'), show: (i) => format.money(i.amount_refunded, i.currency), end: true },
                {
                  label: t('field.actions'),
                  show: (i) =>
                    i.amount_paid > i.amount_refunded && (
                      <Button
                        size="xs"
                        variant="default"
                        onClick={() => {
                          setAmount(i.amount_paid - i.amount_refunded);
                          setBack(i);
                        }}
                      >
                        {t('admin.refund')}
                      </Button>
                    ),
                },
              ]}
            />
          )
        }
      </Answer>
      {back && (
        <Reasoned title={t('admin.refund')} close={() => setBack(null)} submit={refund.mutate} doing={refund} label={t('admin.refund')} danger ready={Number(amount) > 0}>
          <NumberInput label={t('admin.minor', { currency: back.currency.toUpperCase() })} description={format.money(Number(amount), back.currency)} min={1} max={back.amount_paid - back.amount_refunded} allowDecimal={false} value={amount} onChange={setAmount} />
        </Reasoned>
      )}
    </Section>
  );
}

function People({ id }: { id: string }) {
  const { t } = useTranslation();
  const { enter } = useSession();
  const navigate = useNavigate();
  const [as, setAs] = useState<Schema<'AdminUser'> | null>(null);
  const people = useQuery({ queryKey: ['admin', 'people', id], queryFn: () => data(api.GET('/api/v1/admin/users', { params: { query: { tenant_id: id } } })) });
  const act = useAct((reason: string) => data(api.POST('/api/v1/admin/impersonations', { body: { tenant_id: id, user_id: as?.id ?? '', reason } })), {
    done: async (answer) => {
      await enter(answer);
      await navigate({ to: '/app' });
    },
  });
  return (
    <Section title={t('admin.people')}>
      <Answer of={people}>
        {(page) => (
          <Rows
            label={t('admin.people')}
            rows={page.data}
            id={(u) => u.id}
            columns={[
              {
                label: t('team.member'),
                show: (u) => (
                  <Stack gap={0}>
                    <Text fw={550}>{u.full_name}</Text>
                    <Text size="sm" c="dimmed">
                      {u.email}
                    </Text>
                  </Stack>
                ),
              },
              { label: t('admin.factor'), show: (u) => (u.totp_since ? t('admin.yes') : t('admin.no')) },
              {
                label: t('field.actions'),
                show: (u) =>
                  !u.administrator && (
                    <Button size="xs" variant="default" onClick={() => setAs(u)} aria-label={t('acting.asOne', { person: u.email })}>
                      {t('acting.as')}
                    </Button>
                  ),
              },
            ]}
          />
        )}
      </Answer>
      {as && (
        <Reasoned title={t('acting.asOne', { person: as.email })} close={() => setAs(null)} submit={act.mutate} doing={act} label={t('acting.as')}>
          <Text size="sm">{t('acting.text')}</Text>
        </Reasoned>
      )}
    </Section>
  );
}
