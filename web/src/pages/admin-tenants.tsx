import { Anchor, Group, SegmentedControl, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useInfiniteQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import { format } from '../i18n';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { More, Rows } from '../parts/rows';
import { Answer } from '../parts/states';

export function Tenants() {
  const { t } = useTranslation();
  const [text, setText] = useState('');
  const [status, setStatus] = useState<'' | 'active' | 'suspended'>('');
  const [q] = useDebouncedValue(text.trim(), 250);
  const tenants = useInfiniteQuery({
    queryKey: ['admin', 'tenants', q, status],
    initialPageParam: '',
    queryFn: ({ pageParam }) => data(api.GET('/api/v1/admin/tenants', { params: { query: { limit: 50, ...(q ? { q } : {}), ...(status ? { status } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next_cursor,
  });
  return (
    <Page title={t('admin.tenants')} text={t('admin.tenantsText')}>
      <Group>
        <TextInput aria-label={t('admin.find')} placeholder={t('admin.find')} value={text} onChange={(e) => setText(e.currentTarget.value)} flex={1} miw={200} />
        <SegmentedControl aria-label={t('research.state')} value={status} onChange={(v) => setStatus(v as typeof status)} data={[{ value: '', label: t('webhooks.all') }, ...(['active', 'suspended'] as const).map((s) => ({ value: s, label: t(`tenant.${s}`) }))]} />
      </Group>
      <Answer of={tenants}>
        {(pages) => (
          <Rows
            label={t('admin.tenants')}
            rows={pages.pages.flatMap((p) => p.data)}
            id={(x) => x.id}
            columns={[
              {
                label: t('field.title'),
                show: (x) => (
                  <Anchor component={Link} to="/app/admin/tenants/$id" params={{ id: x.id } as never} fw={550}>
                    {x.name || x.slug}
                  </Anchor>
                ),
              },
              { label: t('workspace.slug'), show: (x) => x.slug },
              { label: t('admin.people'), show: (x) => format.number(x.people), end: true },
              {
                label: t('research.state'),
                show: (x) => (
                  <Mark color={x.status === 'active' ? 'green' : 'red'}>{t(`tenant.${x.status}`)}</Mark>
                ),
              },
              { label: t('admin.since'), show: (x) => format.date(x.created_at) },
            ]}
          />
        )}
      </Answer>
      <More of={tenants} />
    </Page>
  );
}
