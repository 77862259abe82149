import { Alert, Anchor, Button, Card, Group, List, NumberInput, Stack, Table, Text } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { PlanCards, priceOf, usePrices, useTitle, type Interval, type Plan } from '../parts/plans';
import { Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

type Standing = Schema<'SubscriptionResponse'>;
interface Wish {
  plan: string;
  interval: Interval;
  quantity: number;
}

const over = (sub: Standing['subscription']) => !sub || sub.status === 'canceled' || sub.status === 'incomplete_expired';
const everything = ['subscription', 'invoices', 'usage', 'me'];

export function Billing() {
  const { t } = useTranslation();
  const { session } = useSearch({ from: '/app/billing' });
  const navigate = useNavigate();
  const cache = useQueryClient();
  const standing = useQuery({ queryKey: ['subscription'], queryFn: () => data(api.GET('/api/v1/billing/subscription')) });
  const plans = useQuery({ queryKey: ['plans'], queryFn: () => data(api.GET('/api/v1/plans')) });
  // Back from the payment page: what it knows is read now, whether or not its
  // event has come.
  useEffect(() => {
    if (!session) return;
    void data(api.POST('/api/v1/billing/refresh'))
      .then(() => Promise.all(everything.map((key) => cache.invalidateQueries({ queryKey: [key] }))))
      .catch(() => undefined) // the page shows how it stands, and the event will come
      .finally(() => void navigate({ to: '/app/billing', search: {}, replace: true }));
  }, [session, cache, navigate]);
  return (
    <Page title={t('nav.billing')} text={t('billing.text')}>
      <Answer of={standing}>{(s) => <Answer of={plans}>{(page) => <Shown standing={s} plans={page.data} />}</Answer>}</Answer>
      <Invoices />
    </Page>
  );
}

function Shown({ standing, plans }: { standing: Standing; plans: Plan[] }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const title = useTitle();
  const sub = standing.subscription;
  const named = (name: string) => title(plans.find((p) => p.name === name)) || name;
  return (
    <>
      {standing.sandbox && <Alert color="orange" title={t('billing.sandbox')} />}
      {!standing.available && <Alert title={t('billing.unavailable')} />}
      <Card withBorder padding="lg">
        <Stack gap="xs">
          <Group justify="space-between">
            <Group gap="sm">
              <Text fw={650} size="lg">
                {named(standing.plan)}
              </Text>
              {sub && (
                <Mark>{t(`subscription.${sub.status}`)}</Mark>
              )}
            </Group>
            {may('billing:write') && standing.available && <Actions standing={standing} named={named} />}
          </Group>
          {standing.source === 'operator' && <Text size="sm">{t('billing.granted')}</Text>}
          {sub && !over(sub) && (
            <>
              <Text size="sm">
                {t('billing.price', { count: sub.quantity, price: format.money(sub.unit_amount, sub.currency), interval: t(`plans.${sub.interval === 'year' ? 'perYear' : 'perMonth'}`) })}
              </Text>
              <Text size="sm">{t(sub.cancel_at_period_end || sub.cancel_at ? 'billing.endsOn' : 'billing.renews', { date: format.date(sub.cancel_at ?? sub.current_period_end) })}</Text>
              {sub.trial_end && sub.status === 'trialing' && <Text size="sm">{t('billing.trial', { date: format.date(sub.trial_end) })}</Text>}
              {sub.next && <Text size="sm">{t('billing.next', { date: format.date(sub.next.at), plan: named(sub.next.plan), count: sub.next.quantity })}</Text>}
              {sub.pending_until && <Text size="sm">{t('billing.pending', { date: format.time(sub.pending_until) })}</Text>}
              {sub.discount && <Text size="sm">{t('billing.discount', { name: sub.discount })}</Text>}
            </>
          )}
          {standing.card && <Text size="sm">{t('billing.card', { brand: standing.card.brand, last4: standing.card.last4 })}</Text>}
        </Stack>
      </Card>
      <Change standing={standing} plans={plans} named={named} />
    </>
  );
}

function Actions({ standing, named }: { standing: Standing; named: (plan: string) => string }) {
  const { t } = useTranslation();
  const [leaving, setLeaving] = useState(false);
  const sub = standing.subscription;
  const portal = useAct(() => data(api.POST('/api/v1/billing/portal')), { done: (link) => location.assign(link.url) });
  const undo = useAct(() => data(api.POST('/api/v1/billing/subscription/undo')), { refresh: everything, said: t('billing.undone') });
  const resume = useAct(() => data(api.POST('/api/v1/billing/subscription/resume')), { refresh: everything });
  const cancel = useAct(() => data(api.POST('/api/v1/billing/subscription/cancel')), { refresh: everything, done: () => setLeaving(false) });
  const failed = portal.error ?? undo.error ?? resume.error;
  if (!sub) return null;
  const planned = sub.cancel_at_period_end || sub.next !== undefined;
  return (
    <Group gap="xs">
      {failed && <Refusal error={failed} />}
      <Button variant="default" onClick={() => portal.mutate()} loading={portal.isPending}>
        {t('billing.portal')}
      </Button>
      {!over(sub) && planned && (
        <Button onClick={() => undo.mutate()} loading={undo.isPending}>
          {t('billing.undo')}
        </Button>
      )}
      {sub.status === 'paused' && (
        <Button onClick={() => resume.mutate()} loading={resume.isPending}>
          {t('billing.resume')}
        </Button>
      )}
      {!over(sub) && !sub.cancel_at_period_end && (
        <Button variant="default" onClick={() => setLeaving(true)}>
          {t('billing.cancel')}
        </Button>
      )}
      <FormDialog opened={leaving} close={() => setLeaving(false)} title={t('billing.cancelTitle')} submit={() => cancel.mutate()} doing={cancel} label={t('billing.cancelSubmit')} danger>
        <Text>{t('billing.cancelText', { date: format.date(sub.current_period_end), plan: named(sub.plan) })}</Text>
      </FormDialog>
    </Group>
  );
}

function Change({ standing, plans, named }: { standing: Standing; plans: Plan[]; named: (plan: string) => string }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const sub = standing.subscription;
  const buys = over(sub);
  const { interval, currency, choice } = usePrices(plans, buys ? undefined : sub?.currency);
  const [seats, setSeats] = useState<number | string>(sub && !buys ? sub.quantity : '');
  const [wish, setWish] = useState<Wish | null>(null);
  const checkout = useAct(
    (plan: string) => data(api.POST('/api/v1/billing/checkout', { body: { plan, interval, currency, ...(typeof seats === 'number' ? { quantity: seats } : {}) } })),
    { done: (link) => location.assign(link.url) },
  );
  return (
    <Section
      title={t('billing.change')}
      text={t('billing.changeText')}
      action={
        <Group align="flex-end">
          {choice}
          <NumberInput aria-label={t('billing.seats')} placeholder={t('billing.seats')} w={110} min={1} max={100000} allowDecimal={false} value={seats} onChange={setSeats} />
        </Group>
      }
    >
      {checkout.isError && <Refusal error={checkout.error} />}
      <PlanCards
        plans={plans}
        interval={interval}
        currency={currency}
        current={standing.plan}
        act={(plan) => {
          const asked: Wish = { plan: plan.name, interval, quantity: typeof seats === 'number' ? seats : (sub?.quantity ?? 1) };
          const same = !buys && sub && sub.plan === plan.name && sub.interval === interval && sub.quantity === asked.quantity;
          if (!may('billing:write') || !standing.available || !priceOf(plan, interval, currency) || same) return null;
          return (
            <Button mt="auto" variant={plan.name === standing.plan ? 'default' : 'filled'} loading={checkout.isPending && checkout.variables === plan.name} onClick={() => (buys ? checkout.mutate(plan.name) : setWish(asked))} aria-label={t(buys ? 'billing.buyOne' : 'billing.changeOne', { plan: named(plan.name) })}>
              {t(buys ? 'billing.buy' : 'billing.changeTo')}
            </Button>
          );
        }}
      />
      {wish && <Preview wish={wish} named={named} close={() => setWish(null)} />}
    </Section>
  );
}

/** What a change costs and takes away, before it is made. */
function Preview({ wish, named, close }: { wish: Wish; named: (plan: string) => string; close: () => void }) {
  const { t } = useTranslation();
  const preview = useQuery({ queryKey: ['change-preview', wish], queryFn: () => data(api.POST('/api/v1/billing/subscription/preview', { body: wish })), staleTime: 0, gcTime: 0, retry: false });
  const at = preview.data?.proration_date;
  const change = useAct(() => data(api.POST('/api/v1/billing/subscription/change', { body: { ...wish, ...(at ? { proration_date: at } : {}) } })), {
    refresh: everything,
    said: t('billing.changed'),
    done: (answer) => {
      if (answer.payment_url) location.assign(answer.payment_url);
      close();
    },
  });
  return (
    <FormDialog opened close={close} title={t('billing.changeOne', { plan: named(wish.plan) })} submit={() => change.mutate()} doing={change} label={t('billing.confirm')} ready={preview.isSuccess}>
      <Answer of={preview}>
        {(p) => (
          <Stack gap="sm">
            <Text>{p.effective === 'now' ? t('billing.now') : t('billing.later', { date: format.date(p.at) })}</Text>
            {p.lines.length > 0 && (
              <Table>
                <Table.Tbody>
                  {p.lines.map((line, i) => (
                    <Table.Tr key={i}>
                      <Table.Td>{line.text}</Table.Td>
                      <Table.Td ta="end">{format.money(line.amount, p.currency)}</Table.Td>
                    </Table.Tr>
                  ))}
                  {p.tax !== 0 && (
                    <Table.Tr>
                      <Table.Td>{t('billing.tax')}</Table.Td>
                      <Table.Td ta="end">{format.money(p.tax, p.currency)}</Table.Td>
                    </Table.Tr>
                  )}
                  <Table.Tr fw={650}>
                    <Table.Td>{t('billing.due')}</Table.Td>
                    <Table.Td ta="end">{format.money(p.due_now, p.currency)}</Table.Td>
                  </Table.Tr>
                </Table.Tbody>
              </Table>
            )}
            {p.excess.length > 0 && (
              <Alert color="orange" title={t('billing.excess')}>
                <List size="sm">
                  {p.excess.map((e) => (
                    <List.Item key={e.level}>{t('billing.excessOne', { level: t(`meter.${e.level}` as 'meter.seats'), used: format.number(e.used), limit: format.number(e.limit) })}</List.Item>
                  ))}
                </List>
              </Alert>
            )}
          </Stack>
        )}
      </Answer>
    </FormDialog>
  );
}

function Invoices() {
  const { t } = useTranslation();
  const invoices = useQuery({ queryKey: ['invoices'], queryFn: () => data(api.GET('/api/v1/billing/invoices')) });
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
                { label: t('billing.number'), show: (i) => i.number || '–' },
                { label: t('billing.date'), show: (i) => format.date(i.created_at) },
                { label: t('research.state'), show: (i) => t(`invoiceState.${i.status}`) },
                { label: t('billing.total'), show: (i) => format.money(i.total, i.currency), end: true },
                {
                  label: t('billing.documents'),
                  show: (i) => (
                    <Group gap="sm">
                      {i.hosted_url && (
                        <Anchor href={i.hosted_url} size="sm">
                          {t(i.status === 'open' ? 'billing.pay' : 'nav.open')}
                        </Anchor>
                      )}
                      {i.pdf_url && (
                        <Anchor href={i.pdf_url} size="sm">
                          PDF
                        </Anchor>
                      )}
                    </Group>
                  ),
                },
              ]}
            />
          )
        }
      </Answer>
    </Section>
  );
}
