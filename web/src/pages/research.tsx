import { Anchor, Button, Card, Group, Radio, Select, Stack, Table, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { format } from '../i18n';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { Answer, Empty, Refusal } from '../parts/states';
import { useSession } from '../session';

/** Starts investigations, and lists those that were made. */
export function Research() {
  const { t } = useTranslation();
  const { may } = useSession();
  const runs = useQuery({ queryKey: ['runs'], queryFn: () => data(api.GET('/api/v1/runs', { params: { query: { limit: 50 } } })), refetchInterval: 10_000 });
  return (
    <Page title={t('nav.research')} text={t('research.text')}>
      {may('research:run') && <StartRun />}
      <Answer of={runs}>
        {(page) =>
          page.data.length === 0 ? (
            <Empty title={t('research.empty')} text={t('research.emptyText')} />
          ) : (
            <Table verticalSpacing="sm" className="cards">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{t('research.run')}</Table.Th>
                  <Table.Th>{t('research.kind')}</Table.Th>
                  <Table.Th>{t('research.state')}</Table.Th>
                  <Table.Th>{t('research.begun')}</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {page.data.map((run) => (
                  <Table.Tr key={run.id}>
                    <Table.Td>
                      <Anchor component={Link} to="/app/research/$id" params={{ id: run.id } as never} fw={550}>
                        {run.title}
                      </Anchor>
                    </Table.Td>
                    <Table.Td data-label={t('research.kind')}>{t(`kind.${run.kind}`)}</Table.Td>
                    <Table.Td data-label={t('research.state')}>
                      <Mark>{t(`state.${run.status}`)}</Mark>
                    </Table.Td>
                    <Table.Td data-label={t('research.begun')}>{format.time(run.created_at)}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
      </Answer>
    </Page>
  );
}

type Kind = 'deep' | 'normal' | 'entity' | 'dataset';
const meters = { deep: 'relations_deep', normal: 'relations_normal', entity: 'entity_search', dataset: 'dataset_search' } as const;

function StartRun() {
  const { t } = useTranslation();
  const { may } = useSession();
  const navigate = useNavigate();
  const [kind, setKind] = useState<Kind>('deep');
  const [subject, setSubject] = useState('');
  const [location, setLocation] = useState('');
  const [lines, setLines] = useState('');
  const [list, setList] = useState<string | null>(null);
  const lists = useQuery({ queryKey: ['datasets'], queryFn: () => data(api.GET('/api/v1/datasets', { params: { query: { limit: 200 } } })), enabled: kind === 'dataset' });
  const usage = useQuery({ queryKey: ['usage'], queryFn: () => data(api.GET('/api/v1/usage')), enabled: may('usage:read') });
  const left = usage.data?.data.find((m) => m.meter === meters[kind]);
  const units = kind === 'dataset' ? (lists.data?.data.find((d) => d.id === list)?.rows ?? 0) : 1;
  const items = [...new Set(lines.split('\n').map((l) => l.trim()).filter(Boolean))];
  const start = useMutation({
    mutationFn: () =>
      kind === 'dataset'
        ? data(api.POST('/api/v1/dataset-searches', { body: { dataset_id: list ?? '', institution: subject } }))
        : kind === 'entity'
        ? data(api.POST('/api/v1/entity-searches', { body: { name: subject, ...(location ? { location } : {}), ...(items.length > 0 ? { risk_keywords: items } : {}) } }))
        : data(api.POST('/api/v1/entity-relations', { body: { mode: kind, institution: subject, ...(location ? { location } : {}), risk_items: items.map((name) => ({ name })) } })),
    onSuccess: (run) => navigate({ to: '/app/research/$id', params: { id: run.id } }),
  });
  const problem = start.error instanceof Problem ? start.error : null;
  return (
    <Card withBorder padding="lg">
      <form
        onSubmit={(e) => {
          e.preventDefault();
          start.mutate();
        }}
      >
        <Stack>
          <Radio.Group label={t('research.kind')} value={kind} onChange={(v) => setKind(v as typeof kind)}>
            <Group mt="xs">
              {(['deep', 'normal', 'entity', 'dataset'] as const).map((value) => (
                <Radio key={value} value={value} label={t(`research.${value}`)} />
              ))}
            </Group>
          </Radio.Group>
          <Group grow align="flex-start">
            <TextInput label={t('research.subject')} required maxLength={300} value={subject} onChange={(e) => setSubject(e.currentTarget.value)} error={problem?.fields.institution ?? problem?.fields.name} />
            {kind === 'dataset' ? (
              <Select label={t('match.lists')} required searchable data={(lists.data?.data ?? []).map((d) => ({ value: d.id, label: `${d.name} (${format.number(d.rows)})` }))} value={list} onChange={setList} error={problem?.fields.dataset_id} />
            ) : (
              <TextInput label={t('research.location')} maxLength={200} value={location} onChange={(e) => setLocation(e.currentTarget.value)} error={problem?.fields.location} />
            )}
          </Group>
          {kind !== 'dataset' && (
            <Textarea
              label={t(kind === 'entity' ? 'research.keywords' : 'research.items')}
              required={kind !== 'entity'}
              autosize
              minRows={3}
              value={lines}
              onChange={(e) => setLines(e.currentTarget.value)}
              error={problem?.fields.risk_items ?? problem?.fields.risk_keywords}
            />
          )}
          {left && (
            <Text size="sm" c="dimmed">
              {t('research.uses', { count: units, units: format.number(units), meter: t(`meter.${meters[kind]}`), left: left.remaining === null ? t('usage.unlimited') : format.number(left.remaining) })}
            </Text>
          )}
          {start.isError && <Refusal error={start.error} />}
          <Button type="submit" loading={start.isPending} w="fit-content">
            {t('research.start')}
          </Button>
        </Stack>
      </form>
    </Card>
  );
}
