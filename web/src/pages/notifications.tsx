import { Anchor, Badge, Button, Card, Group, SegmentedControl, Text } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { Link, type LinkProps } from '@tanstack/react-router';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import { format } from '../i18n';
import { useAct } from '../parts/act';
import { Page } from '../parts/page';
import { More } from '../parts/rows';
import { Answer, Empty, Refusal } from '../parts/states';

/** What the reader is told, newest first, each with the page that shows more. */
export function NotificationList() {
  const { t, i18n } = useTranslation();
  const [shown, setShown] = useState<'all' | 'unread'>('all');
  const list = useInfiniteQuery({
    queryKey: ['notifications', shown],
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/me/notifications', { params: { query: { unread: shown === 'unread', ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: '',
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    select: (all) => ({ ...all, rows: all.pages.flatMap((p) => p.data) }),
  });
  // The server words them: in another language they are read again.
  const worded = useRef(i18n.language);
  const { data: there, refetch } = list;
  useEffect(() => {
    if (worded.current === i18n.language) return;
    worded.current = i18n.language;
    if (there) void refetch();
  }, [i18n.language, there, refetch]);
  const newest = there?.rows[0];
  const read = useAct((id: string) => data(api.POST('/api/v1/me/notifications/{id}/read', { params: { path: { id } } })), { refresh: ['notifications'] });
  const readAll = useAct((id: string) => data(api.POST('/api/v1/me/notifications/read', { body: { up_to: id } })), { refresh: ['notifications'] });
  const failed = read.error ?? readAll.error;
  return (
    <Page
      title={t('nav.notifications')}
      text={t('notice.text')}
      action={
        <Group gap="xs">
          <Button variant="default" component={Link} to="/app/account" hash="notifications">
            {t('notice.preferences')}
          </Button>
          <Button onClick={() => newest && readAll.mutate(newest.id)} loading={readAll.isPending} disabled={!there?.rows.some((m) => !m.read_at)}>
            {t('notice.readAll')}
          </Button>
        </Group>
      }
    >
      <SegmentedControl
        aria-label={t('notice.shown')}
        value={shown}
        onChange={(v) => setShown(v as typeof shown)}
        data={[
          { value: 'all', label: t('notice.all') },
          { value: 'unread', label: t('notice.unread') },
        ]}
        w="fit-content"
      />
      {failed && <Refusal error={failed} />}
      <Answer of={list}>
        {({ rows }) => (rows.length === 0 ? <Empty title={t('notice.empty')} text={t('notice.emptyText')} /> : rows.map((m) => <One key={m.id} notification={m} read={() => read.mutate(m.id)} />))}
      </Answer>
      <More of={list} />
    </Page>
  );
}

function One({ notification: m, read }: { notification: Schema<'Notification'>; read: () => void }) {
  const { t } = useTranslation();
  return (
    <Card withBorder component="article" padding="sm">
      <Group justify="space-between" wrap="nowrap" align="flex-start">
        <div>
          <Anchor component={Link} to={m.path as NonNullable<LinkProps['to']>} fw={m.read_at ? 400 : 600} underline="always" onClick={() => !m.read_at && read()}>
            {m.text}
          </Anchor>
          <Text size="sm" c="dimmed">
            {format.time(m.created_at)}
          </Text>
        </div>
        {!m.read_at && (
          <Group gap="xs" wrap="nowrap">
            <Badge variant="outline" c="var(--mantine-color-text)" visibleFrom="sm">
              {t('notice.new')}
            </Badge>
            <Button size="xs" variant="default" onClick={read} aria-label={t('notice.readOne', { text: m.text })}>
              {t('notice.read')}
            </Button>
          </Group>
        )}
      </Group>
    </Card>
  );
}
