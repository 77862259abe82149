// The frame of the pages behind sign-in: navigation, tenant, palette.
import '@mantine/notifications/styles.css';
import '@mantine/spotlight/styles.css';
import { AppShell as Frame, Burger, Button, Center, Group, Loader, Menu, NavLink, ScrollArea, Text, UnstyledButton } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { Notifications } from '@mantine/notifications';
import { Spotlight, spotlight } from '@mantine/spotlight';
import { IconAlertTriangle, IconBell, IconBuildings, IconChartBar, IconChartLine, IconChevronDown, IconCreditCard, IconDatabase, IconFingerprint, IconHeartbeat, IconHome, IconInbox, IconKey, IconKeyboard, IconListCheck, IconLogin2, IconLogout, IconPlugConnected, IconSearch, IconSettings, IconShieldCheck, IconStack2, IconTags, IconTargetArrow, IconTopologyStar3, IconUser, IconUsers, IconWebhook } from '@tabler/icons-react';
import { Link, Outlet, useLocation, useNavigate, type LinkProps } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import type { Key } from '../i18n';
import { useSession } from '../session';
import { Acting } from './acting';
import { Banners } from './banners';
import { Bell } from './bell';
import { Brand, Preferences } from './chrome';
import { ShortcutSheet, useShortcuts } from './shortcuts';
import { NoAnswer } from './states';
import { StepUp } from './step-up';

type Path = NonNullable<LinkProps['to']>;
interface PageLink {
  to: Path;
  label: Key;
  icon: typeof IconHome;
  needs?: string;
  key?: string; // after g
}

// The sections: the work, the workspace it is done in, and oneself.
const sections: { label?: Key; pages: PageLink[] }[] = [
  {
    pages: [
      { to: '/app', label: 'nav.start', icon: IconHome, key: 's' },
      { to: '/app/match', label: 'nav.match', icon: IconTargetArrow, needs: 'match:run', key: 'm' },
      { to: '/app/research', label: 'nav.research', icon: IconTopologyStar3, needs: 'research:read', key: 'r' },
      { to: '/app/datasets', label: 'nav.datasets', icon: IconDatabase, needs: 'dataset:read', key: 'd' },
    ],
  },
  {
    label: 'nav.workspace',
    pages: [
      { to: '/app/team', label: 'nav.team', icon: IconUsers, needs: 'member:read', key: 't' },
      { to: '/app/usage', label: 'nav.usage', icon: IconChartBar, needs: 'usage:read', key: 'u' },
      { to: '/app/billing', label: 'nav.billing', icon: IconCreditCard, needs: 'billing:read', key: 'b' },
      { to: '/app/api-keys', label: 'nav.keys', icon: IconKey, needs: 'api_key:read', key: 'k' },
      { to: '/app/webhooks', label: 'nav.webhooks', icon: IconWebhook, needs: 'webhook:read', key: 'w' },
      { to: '/app/audit', label: 'nav.audit', icon: IconListCheck, needs: 'audit:read', key: 'l' },
      { to: '/app/sign-on', label: 'nav.signOn', icon: IconLogin2, needs: 'tenant:write', key: 'i' },
      { to: '/app/workspace', label: 'nav.settings', icon: IconSettings, needs: 'tenant:read', key: 'o' },
    ],
  },
  {
    label: 'nav.you',
    pages: [
      { to: '/app/notifications', label: 'nav.notifications', icon: IconBell, key: 'n' },
      { to: '/app/account', label: 'nav.account', icon: IconUser, key: 'a' },
      { to: '/app/security', label: 'nav.security', icon: IconShieldCheck, key: 'x' },
      { to: '/app/privacy', label: 'nav.data', icon: IconFingerprint, key: 'p' },
    ],
  },
];

// For who runs the platform.
const platform: { label: Key; pages: PageLink[] } = {
  label: 'nav.admin',
  pages: [
    { to: '/app/admin/tenants', label: 'admin.tenants', icon: IconBuildings },
    { to: '/app/admin/people', label: 'admin.people', icon: IconUsers },
    { to: '/app/admin/plans', label: 'admin.plans', icon: IconTags },
    { to: '/app/admin/payments', label: 'admin.payments', icon: IconInbox },
    { to: '/app/admin/record', label: 'admin.record', icon: IconListCheck },
    { to: '/app/admin/business', label: 'admin.business', icon: IconChartLine },
    { to: '/app/admin/services', label: 'admin.services', icon: IconHeartbeat },
    { to: '/app/admin/alerts', label: 'admin.alerts', icon: IconAlertTriangle },
    { to: '/app/admin/jobs', label: 'admin.jobs', icon: IconStack2 },
    { to: '/app/admin/providers', label: 'admin.providers', icon: IconPlugConnected },
  ],
};

export function AppShell() {
  const { t } = useTranslation();
  const { me, tenant, ready, unknown, may, enter, leave } = useSession();
  const [opened, { toggle, close }] = useDisclosure();
  const { pathname } = useLocation();
  const navigate = useNavigate();
  const [sheet, setSheet] = useState(false);
  const shown = [...sections, ...(me?.administrator ? [platform] : [])].map((s) => ({ ...s, pages: s.pages.filter((p) => !p.needs || may(p.needs)) })).filter((s) => s.pages.length > 0);
  const all = shown.flatMap((s) => s.pages);
  useShortcuts({ '?': () => setSheet(true), ...Object.fromEntries(all.filter((p) => p.key).map((p) => [`g ${p.key}`, () => void navigate({ to: p.to })])) });
  const out = ready && !me && !unknown;
  useEffect(() => {
    if (out) void navigate({ to: '/sign-in', search: { next: location.pathname + location.search }, replace: true });
  }, [out, navigate]);
  if (unknown) return <NoAnswer {...unknown} />;
  if (!ready || !me)
    return (
      <Center mih="100vh">
        <Loader aria-label={t('state.loading')} />
      </Center>
    );
  const change = async (id: string) => {
    await enter(await data(api.POST('/api/v1/auth/switch', { body: { tenant_id: id } })));
    await navigate({ to: '/app' });
  };
  return (
    <Frame header={{ height: 56 }} navbar={{ width: 232, breakpoint: 'sm', collapsed: { mobile: !opened } }} padding="md">
      <Notifications position="bottom-right" />
      <Spotlight
        nothingFound={t('palette.nothing')}
        searchProps={{ placeholder: t('palette.search'), 'aria-label': t('palette.search') }}
        shortcut={['mod + K']}
        actions={[
          ...all.map((p) => ({ id: p.to, label: t(p.label), leftSection: <p.icon size={18} />, onClick: () => void navigate({ to: p.to }) })),
          { id: 'shortcuts', label: t('shortcuts.title'), leftSection: <IconKeyboard size={18} />, onClick: () => setSheet(true) },
          ...me.tenants.filter((other) => other.id !== me.tenant_id).map((other) => ({ id: other.id, label: t('palette.switch', { tenant: other.name }), leftSection: <IconUsers size={18} />, onClick: () => void change(other.id) })),
        ]}
      />
      <ShortcutSheet opened={sheet} close={() => setSheet(false)} pages={all.flatMap((p) => (p.key ? [{ keys: `g ${p.key}`, does: t(p.label) }] : []))} />
      <StepUp />
      <a href="#content" className="skip">
        {t('chrome.skip')}
      </a>
      <Frame.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t('chrome.menu')} />
            <Brand to="/app" />
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Button variant="default" size="xs" leftSection={<IconSearch size={14} />} onClick={spotlight.open} visibleFrom="sm">
              {t('palette.open')}
            </Button>
            <Bell />
            <Menu position="bottom-end" width={240}>
              <Menu.Target>
                <UnstyledButton aria-label={t('chrome.account', { tenant: tenant?.name ?? '' })}>
                  <Group gap={4} wrap="nowrap">
                    <Text size="sm" fw={500} truncate maw={140}>
                      {tenant?.name}
                    </Text>
                    <IconChevronDown size={14} />
                  </Group>
                </UnstyledButton>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Label>{me.user?.email}</Menu.Label>
                {me.tenants.map((other) => (
                  <Menu.Item key={other.id} disabled={other.id === me.tenant_id} onClick={() => void change(other.id)}>
                    {other.name}
                  </Menu.Item>
                ))}
                <Menu.Divider />
                <Menu.Item leftSection={<IconLogout size={16} />} onClick={() => void leave().then(() => navigate({ to: '/' }))}>
                  {t('action.signOut')}
                </Menu.Item>
              </Menu.Dropdown>
            </Menu>
            <Preferences />
          </Group>
        </Group>
      </Frame.Header>
      <Frame.Navbar p="xs" component="nav" aria-label={t('chrome.app')}>
        <ScrollArea>
          {shown.map((section) => (
            <div key={section.label ?? 'work'} role="group" aria-label={section.label && t(section.label)}>
              {section.label && (
                <Text size="xs" c="dimmed" fw={600} mt="sm" px="sm" aria-hidden>
                  {t(section.label)}
                </Text>
              )}
              {section.pages.map((p) => (
                <NavLink
                  key={p.to}
                  component={Link}
                  to={p.to}
                  activeOptions={{ exact: p.to === '/app' }}
                  label={t(p.label)}
                  leftSection={<p.icon size={18} />}
                  active={p.to === '/app' ? pathname === '/app' || pathname === '/app/' : pathname.startsWith(p.to)}
                  variant="filled"
                  py={6}
                  onClick={close}
                />
              ))}
            </div>
          ))}
        </ScrollArea>
      </Frame.Navbar>
      <Frame.Main id="content">
        <Acting />
        <Banners />
        <Outlet />
      </Frame.Main>
    </Frame>
  );
}
