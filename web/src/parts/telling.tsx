import { Select, Switch } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { api, data, type Schema } from '../api';
import type { Key } from '../i18n';
import { useAct } from './act';
import { Section } from './page';
import { Rows } from './rows';
import { Answer, Refusal } from './states';

type Preference = Schema<'Preference'>;

/** How the reader is told of each thing that happens in this workspace. */
export function Telling() {
  const { t } = useTranslation();
  const preferences = useQuery({ queryKey: ['notification preferences'], queryFn: () => data(api.GET('/api/v1/me/notifications/preferences')) });
  const put = useAct((p: Preference) => data(api.PUT('/api/v1/me/notifications/preferences', { body: { preferences: [{ type: p.type, in_app: p.in_app, mail: p.mail }] } })), { refresh: ['notification preferences'] });
  const name = (p: Preference) => t(`noticeType.${p.type}` as Key);
  return (
    <div id="notifications">
      <Section title={t('nav.notifications')} text={t('notice.preferencesText')}>
        {put.isError && <Refusal error={put.error} />}
        <Answer of={preferences}>
          {({ data: rows }) => (
            <Rows
              label={t('nav.notifications')}
              rows={rows.map((p) => (put.isPending && put.variables.type === p.type ? put.variables : p))}
              id={(p) => p.type}
              columns={[
                { label: t('notice.type'), show: name },
                { label: t('notice.inApp'), show: (p) => <Switch checked={p.in_app} onChange={(e) => put.mutate({ ...p, in_app: e.currentTarget.checked })} aria-label={t('notice.inAppOf', { type: name(p) })} /> },
                {
                  label: t('notice.mail'),
                  show: (p) => (
                    <Select
                      size="xs"
                      w={180}
                      value={p.mail}
                      disabled={p.mail_fixed}
                      onChange={(v) => v && v !== p.mail && put.mutate({ ...p, mail: v as Preference['mail'] })}
                      data={(['once', 'daily', 'off'] as const).map((v) => ({ value: v, label: t(p.mail_fixed ? 'notice.always' : `notice.${v}`) }))}
                      allowDeselect={false}
                      aria-label={t('notice.mailOf', { type: name(p) })}
                    />
                  ),
                },
              ]}
            />
          )}
        </Answer>
      </Section>
    </div>
  );
}
