import { Alert, Button, Card, Group, SimpleGrid, Stack, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Mark } from '../parts/mark';
import { Page, Section } from '../parts/page';
import { Reasoned } from '../parts/reason';
import { Rows } from '../parts/rows';
import { Answer, Refusal } from '../parts/states';

const colours = { healthy: 'green', degraded: 'orange', down: 'red' } as const;

/** How the services are, whether the system may speak, and what may not be erased. */
export function Services() {
  const { t } = useTranslation();
  return (
    <Page title={t('admin.services')} text={t('admin.servicesText')}>
      <Quarantine />
      <Health />
      <Holds />
    </Page>
  );
}

function Health() {
  const { t } = useTranslation();
  const health = useQuery({ queryKey: ['services'], queryFn: () => data(api.GET('/api/monitoring/health')), refetchInterval: 30_000 });
  const look = useAct(() => data(api.POST('/api/monitoring/health/check')), { refresh: ['services'] });
  return (
    <Section
      title={t('nav.status')}
      action={
        <Button variant="default" onClick={() => look.mutate()} loading={look.isPending}>
          {t('admin.look')}
        </Button>
      }
    >
      {look.isError && <Refusal error={look.error} />}
      <Answer of={health}>
        {(h) => (
          <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }}>
            {h.services.map((s) => (
              <Card withBorder key={s.service}>
                <Group justify="space-between">
                  <Text fw={600}>{t(`service.${s.service}` as 'service.email', { defaultValue: s.service })}</Text>
                  <Mark color={colours[s.status]}>{t(`status.${s.status}`)}</Mark>
                </Group>
                <Text size="sm" c="dimmed">
                  {t('match.took', { ms: format.number(s.response_time_ms) })} · {t('admin.errors', { share: format.percent(s.error_rate) })} · {format.time(s.last_check)}
                </Text>
                {s.metadata.last_error && <Text size="sm">{s.metadata.last_error}</Text>}
                <Text size="sm">
                  {Object.entries({ database: s.dependencies.database, redis: s.dependencies.redis, ...s.dependencies.external_apis })
                    .map(([name, state]) => `${t(`status.${name}` as 'status.redis', { defaultValue: name })}: ${t(`status.${state}` as 'status.down', { defaultValue: state })}`)
                    .join(' · ')}
                </Text>
              </Card>
            ))}
          </SimpleGrid>
        )}
      </Answer>
    </Section>
  );
}

function Quarantine() {
  const { t } = useTranslation();
  const state = useQuery({ queryKey: ['admin', 'quarantine'], queryFn: () => data(api.GET('/api/v1/admin/quarantine')) });
  const release = useAct((keep_waiting: boolean) => data(api.POST('/api/v1/admin/quarantine/release', { body: { keep_waiting } })), { refresh: ['admin'] });
  return (
    <Answer of={state}>
      {(q) =>
        q.on && (
          <Alert color="red" title={t('quarantine.title')}>
            <Stack gap="xs">
              <Text size="sm">{t('quarantine.text', { reason: q.quarantine?.reason ?? '' })}</Text>
              {release.isError && <Refusal error={release.error} />}
              <Group gap="xs">
                <Button size="xs" onClick={() => release.mutate(false)} loading={release.isPending}>
                  {t('quarantine.release')}
                </Button>
                <Button size="xs" variant="default" onClick={() => release.mutate(true)} loading={release.isPending}>
                  {t('quarantine.releaseAll')}
                </Button>
              </Group>
            </Stack>
          </Alert>
        )
      }
    </Answer>
  );
}

function Holds() {
  const { t } = useTranslation();
  const [adding, setAdding] = useState(false);
  const [subject, setSubject] = useState('');
  const holds = useQuery({ queryKey: ['admin', 'holds'], queryFn: () => data(api.GET('/api/v1/admin/holds')) });
  const add = useAct((reason: string) => data(api.POST('/api/v1/admin/holds', { body: { subject, reason } })), { refresh: ['admin'], done: () => setAdding(false) });
  const remove = useAct((id: string) => data(api.DELETE('/api/v1/admin/holds/{id}', { params: { path: { id } } })), { refresh: ['admin'] });
  return (
    <Section
      title={t('holds.title')}
      text={t('holds.text')}
      action={
        <Button variant="default" onClick={() => setAdding(true)}>
          {t('holds.add')}
        </Button>
      }
    >
      {remove.isError && <Refusal error={remove.error} />}
      <Answer of={holds}>
        {(page) =>
          page.data.length > 0 && (
            <Rows
              label={t('holds.title')}
              rows={page.data}
              id={(h) => h.id}
              columns={[
                { label: t('holds.subject'), show: (h) => h.subject },
                { label: t('admin.reason'), show: (h) => h.reason },
                { label: t('billing.date'), show: (h) => format.time(h.created_at) },
                {
                  label: t('field.actions'),
                  show: (h) => (
                    <Button size="xs" variant="default" onClick={() => remove.mutate(h.id)} aria-label={t('admin.takeOne', { name: h.subject })}>
                      {t('team.remove')}
                    </Button>
                  ),
                },
              ]}
            />
          )
        }
      </Answer>
      {adding && (
        <Reasoned title={t('holds.add')} close={() => setAdding(false)} submit={add.mutate} doing={add} label={t('holds.add')} ready={subject.trim() !== ''}>
          <TextInput label={t('holds.subject')} placeholder="ten_ / usr_" value={subject} onChange={(e) => setSubject(e.currentTarget.value.trim())} />
        </Reasoned>
      )}
    </Section>
  );
}
