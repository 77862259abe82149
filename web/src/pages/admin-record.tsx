import { Button, Code, Group, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Page, Section } from '../parts/page';
import { More, Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';

/** The record of every tenant, and who acted in whose name. */
export function PlatformRecord() {
  const { t } = useTranslation();
  return (
    <Page title={t('admin.record')} text={t('admin.recordText')}>
      <Impersonations />
      <Events />
    </Page>
  );
}

function Impersonations() {
  const { t } = useTranslation();
  const list = useQuery({ queryKey: ['admin', 'impersonations'], queryFn: () => data(api.GET('/api/v1/admin/impersonations')) });
  const end = useAct((id: string) => data(api.DELETE('/api/v1/admin/impersonations/{id}', { params: { path: { id } } })), { refresh: ['admin'] });
  return (
    <Section title={t('acting.list')}>
      {end.isError && <Refusal error={end.error} />}
      <Answer of={list}>
        {(page) =>
          page.data.length === 0 ? (
            <Text c="dimmed">{t('acting.none')}</Text>
          ) : (
            <Rows
              label={t('acting.list')}
              rows={page.data}
              id={(i) => i.id}
              columns={[
                { label: t('audit.who'), show: (i) => i.admin_id },
                { label: t('acting.whom'), show: (i) => i.user_id },
                { label: t('audit.when'), show: (i) => format.time(i.started_at) },
                { label: t('admin.reason'), show: (i) => i.reason },
                {
                  label: t('field.actions'),
                  show: (i) =>
                    !i.ended_at && Date.parse(i.expires_at) > Date.now() ? (
                      <Button size="xs" variant="default" onClick={() => end.mutate(i.id)}>
                        {t('acting.end')}
                      </Button>
                    ) : (
                      t('acting.ended')
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

function Events() {
  const { t } = useTranslation();
  const [tenant, setTenant] = useState('');
  const [action, setAction] = useState('');
  const [sought] = useDebouncedValue(`${tenant.trim()} ${action.trim()}`, 250);
  const [tenant_id = '', what = ''] = sought.split(' ');
  const events = useInfiniteQuery({
    queryKey: ['admin', 'record', tenant_id, what],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/admin/audit-events', { params: { query: { limit: 50, ...(tenant_id ? { tenant_id } : {}), ...(what ? { action: what } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
    retry: false,
  });
  return (
    <Section title={t('nav.audit')}>
      <Group grow>
        <TextInput label={t('admin.tenant')} placeholder="ten_" value={tenant} onChange={(e) => setTenant(e.currentTarget.value)} />
        <TextInput label={t('audit.action')} placeholder="plan.grant" value={action} onChange={(e) => setAction(e.currentTarget.value)} />
      </Group>
      <Answer of={events}>
        {(pages) => (
          <Rows
            label={t('nav.audit')}
            rows={pages.pages.flatMap((p) => p.data)}
            id={(e) => `${e.tenant_id} ${e.id}`}
            columns={[
              { label: t('audit.action'), show: (e) => <Code>{e.action}</Code> },
              { label: t('audit.when'), show: (e) => format.time(e.occurred_at) },
              { label: t('admin.tenant'), show: (e) => e.tenant_id },
              { label: t('audit.who'), show: (e) => (e.impersonator ? `${e.impersonator} → ${e.actor_id}` : e.actor_id) },
              { label: t('audit.target'), show: (e) => e.target },
            ]}
          />
        )}
      </Answer>
      <More of={events} />
    </Section>
  );
}
