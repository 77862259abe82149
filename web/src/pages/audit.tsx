import { Button, Code, Group, Stack, Table, Text } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { Answer } from '../parts/states';

export function Audit() {
  const { t } = useTranslation();
  const chain = useQuery({ queryKey: ['audit-verify'], queryFn: () => data(api.GET('/api/v1/audit-events/verify')), staleTime: 60_000 });
  const events = useInfiniteQuery({
    queryKey: ['audit'],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/audit-events', { params: { query: { limit: 50, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  return (
    <Page title={t('nav.audit')} text={t('audit.text')}>
      <Answer of={chain}>
        {(c) => (
          <Group gap="sm">
            <Mark color={c.ok ? 'green' : 'red'}>{c.ok ? t('audit.whole') : t('audit.broken', { at: c.first_broken ?? 0 })}</Mark>
            <Text size="sm" c="dimmed">
              {t('audit.length', { count: c.length, length: format.number(c.length) })}
            </Text>
          </Group>
        )}
      </Answer>
      <Answer of={events}>
        {(pages) => (
          <Stack>
            <Table verticalSpacing="xs" className="cards">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{t('audit.when')}</Table.Th>
                  <Table.Th>{t('audit.action')}</Table.Th>
                  <Table.Th>{t('audit.who')}</Table.Th>
                  <Table.Th>{t('audit.target')}</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {pages.pages
                  .flatMap((p) => p.data)
                  .map((e) => (
                    <Table.Tr key={e.id}>
                      <Table.Td data-label={t('audit.when')}>{format.time(e.occurred_at)}</Table.Td>
                      <Table.Td data-label={t('audit.action')}>
                        <Code>{e.action}</Code>
                      </Table.Td>
                      <Table.Td data-label={t('audit.who')}>{e.actor_id}</Table.Td>
                      <Table.Td data-label={t('audit.target')}>{e.target}</Table.Td>
                    </Table.Tr>
                  ))}
              </Table.Tbody>
            </Table>
            {events.hasNextPage && (
              <Button variant="default" onClick={() => void events.fetchNextPage()} loading={events.isFetchingNextPage}>
                {t('action.more')}
              </Button>
            )}
          </Stack>
        )}
      </Answer>
    </Page>
  );
}
