//! The names of the DTD: its elements, and the attributes that carry meaning for us.

macro_rules! names {
    ($(#[$meta:meta])* $enum:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl $enum {
            /// The name as it stands in documents.
            pub const fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $text,)*
                }
            }

            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some($enum::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    /// An element of DSP0203's DTD.
    Element {
        Cim = "CIM",
        Declaration = "DECLARATION",
        DeclGroup = "DECLGROUP",
        DeclGroupWithName = "DECLGROUP.WITHNAME",
        DeclGroupWithPath = "DECLGROUP.WITHPATH",
        QualifierDeclaration = "QUALIFIER.DECLARATION",
        Scope = "SCOPE",
        Value = "VALUE",
        ValueArray = "VALUE.ARRAY",
        ValueReference = "VALUE.REFERENCE",
        ValueRefArray = "VALUE.REFARRAY",
        ValueNull = "VALUE.NULL",
        ValueObject = "VALUE.OBJECT",
        ValueNamedInstance = "VALUE.NAMEDINSTANCE",
        ValueNamedObject = "VALUE.NAMEDOBJECT",
        ValueObjectWithLocalPath = "VALUE.OBJECTWITHLOCALPATH",
        ValueObjectWithPath = "VALUE.OBJECTWITHPATH",
        ValueInstanceWithPath = "VALUE.INSTANCEWITHPATH",
        NamespacePath = "NAMESPACEPATH",
        LocalNamespacePath = "LOCALNAMESPACEPATH",
        Host = "HOST",
        Namespace = "NAMESPACE",
        ClassPath = "CLASSPATH",
        LocalClassPath = "LOCALCLASSPATH",
        ClassName = "CLASSNAME",
        InstancePath = "INSTANCEPATH",
        LocalInstancePath = "LOCALINSTANCEPATH",
        InstanceName = "INSTANCENAME",
        ObjectPath = "OBJECTPATH",
        KeyBinding = "KEYBINDING",
        KeyValue = "KEYVALUE",
        Class = "CLASS",
        Instance = "INSTANCE",
        Qualifier = "QUALIFIER",
        Property = "PROPERTY",
        PropertyArray = "PROPERTY.ARRAY",
        PropertyReference = "PROPERTY.REFERENCE",
        Method = "METHOD",
        Parameter = "PARAMETER",
        ParameterReference = "PARAMETER.REFERENCE",
        ParameterArray = "PARAMETER.ARRAY",
        ParameterRefArray = "PARAMETER.REFARRAY",
        Message = "MESSAGE",
        MultiReq = "MULTIREQ",
        SimpleReq = "SIMPLEREQ",
        MethodCall = "METHODCALL",
        ParamValue = "PARAMVALUE",
        IMethodCall = "IMETHODCALL",
        IParamValue = "IPARAMVALUE",
        MultiRsp = "MULTIRSP",
        SimpleRsp = "SIMPLERSP",
        MethodResponse = "METHODRESPONSE",
        IMethodResponse = "IMETHODRESPONSE",
        Error = "ERROR",
        ReturnValue = "RETURNVALUE",
        IReturnValue = "IRETURNVALUE",
        ResponseDestination = "RESPONSEDESTINATION",
        SimpleReqAck = "SIMPLEREQACK",
        Correlator = "CORRELATOR",
        MultiExpReq = "MULTIEXPREQ",
        SimpleExpReq = "SIMPLEEXPREQ",
        ExpMethodCall = "EXPMETHODCALL",
        MultiExpRsp = "MULTIEXPRSP",
        SimpleExpRsp = "SIMPLEEXPRSP",
        ExpMethodResponse = "EXPMETHODRESPONSE",
        ExpParamValue = "EXPPARAMVALUE",
        EnumerationContext = "ENUMERATIONCONTEXT",
    }
}

names! {
    /// An attribute of DSP0203's DTD.
    Attribute {
        CimVersion = "CIMVERSION",
        DtdVersion = "DTDVERSION",
        ProtocolVersion = "PROTOCOLVERSION",
        Id = "ID",
        Name = "NAME",
        Type = "TYPE",
        ValueType = "VALUETYPE",
        ParamType = "PARAMTYPE",
        ClassName = "CLASSNAME",
        SuperClass = "SUPERCLASS",
        Derivation = "DERIVATION",
        ClassOrigin = "CLASSORIGIN",
        Propagated = "PROPAGATED",
        EmbeddedObject = "EmbeddedObject",
        ArraySize = "ARRAYSIZE",
        IsArray = "ISARRAY",
        ReferenceClass = "REFERENCECLASS",
        Overridable = "OVERRIDABLE",
        ToSubclass = "TOSUBCLASS",
        ToInstance = "TOINSTANCE",
        Translatable = "TRANSLATABLE",
        Code = "CODE",
        Description = "DESCRIPTION",
        Class = "CLASS",
        Association = "ASSOCIATION",
        Reference = "REFERENCE",
        Property = "PROPERTY",
        Method = "METHOD",
        Parameter = "PARAMETER",
        Indication = "INDICATION",
    }
}

impl Attribute {
    /// Like [`Attribute::from_name`], and in the other spelling that `EmbeddedObject` has had.
    pub(crate) fn from_document(name: &str) -> Option<Self> {
        match name {
            "EMBEDDEDOBJECT" => Some(Attribute::EmbeddedObject),
            _ => Attribute::from_name(name),
        }
    }
}
